// Frequencies of the rotary embedding and its long-context variants.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "config/model_config.h"
#include "ops/rope.h"

namespace transxssm {

struct RopeFrequencies {
  std::vector<double> theta;      // radians per position, width / 2 of them
  double attention_factor = 1.0;  // scales Q, K and C, B alike (yarn)
};

// θ_k = base^(−2k / width), k < width / 2, changed by the variant:
//   linear  θ / factor                                  (position interpolation, arXiv 2306.15595)
//   ntk     base · factor^(width / (width − 2))          ("NTK-aware", fixed factor)
//   yarn    ramp between θ and θ / factor by wavelength  (arXiv 2309.00071)
//   llama3  the same with Llama 3.1's smoothing of wavelengths
RopeFrequencies rope_frequencies(const RopeConfig& config, int64_t width);

// Table for positions [0, positions). Angles in fp64, cos and sin stored as f32.
ops::RopeTable make_rope_table(const RopeConfig& config, int64_t width, int64_t positions, at::Device device);

}  // namespace transxssm
