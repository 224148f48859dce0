// The causal convolution by CUDA kernels.
#pragma once

#include "ops/causal_conv1d.h"

namespace transxssm::ops {

// bf16 on CUDA, 2 to 4 taps, channels and columns that are multiples of 4, rows at strides that are too.
bool has_causal_conv1d_kernel(const at::Tensor& x_btw, const ParameterPtr& w);

// ops/causal_conv1d.h without initial inputs, arguments already checked. Keeps only the inputs for backward.
at::Tensor causal_conv1d_kernel(const at::Tensor& x_btw, const ParameterPtr& w, const ParameterPtr& bias,
                                const Documents& documents);

}  // namespace transxssm::ops
