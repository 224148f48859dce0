// A few parameters of every sort for the tests of this folder: packed with padding rows, tied to both kinds,
// decayed and not, with awkward sizes.
#pragma once

#include <vector>

#include "core/parameter.h"

namespace transxssm {

inline ParameterSpec one_part(const std::string& name, ParameterKind kind, std::vector<int64_t> shape,
                              bool decay, Init init) {
  return {name, kind, shape, decay, {{name, shape, 0, init}}};
}

// Padding: row 3 between the parts of "mixer.in" and rows 12 to 15 after them.
inline std::vector<ParameterSpec> sample_specs() {
  const Init normal{Init::Kind::normal, 0.02, 0};
  const Init one{Init::Kind::constant, 1, 0};
  return {
      one_part("embed", ParameterKind::matrix, {11, 13}, false, normal),
      {"mixer.in",
       ParameterKind::matrix,
       {16, 7},
       true,
       {{"c", {3, 7}, 0, normal}, {"dt", {8, 7}, 4, normal}}},
      one_part("norm", ParameterKind::vector, {7}, false, one),
      one_part("a_log", ParameterKind::vector, {5}, false, {Init::Kind::log_uniform, 1, 16}),
      one_part("conv", ParameterKind::vector, {6, 3}, true, {Init::Kind::uniform, -0.5, 0.5}),
      one_part("mixer.out", ParameterKind::matrix, {1, 1}, true, normal),
  };
}
inline constexpr int64_t kSampleCount = 11 * 13 + 11 * 7 + 7 + 5 + 18 + 1;  // elements of logical tensors

}  // namespace transxssm
