// The causal convolution as K shifted products of plain ATen, forward and hand-written backward.
#pragma once

#include "ops/causal_conv1d.h"

namespace transxssm::ops::reference {

// ops/causal_conv1d.h, arguments already checked. Keeps only the inputs for backward.
at::Tensor causal_conv1d(const at::Tensor& x_btw, const ParameterPtr& w, const ParameterPtr& bias,
                         const Documents& documents, const std::optional<at::Tensor>& initial_bkc);

at::Tensor causal_conv1d_step(const at::Tensor& x_bw, const ParameterPtr& w, const ParameterPtr& bias,
                              at::Tensor& window_bkc);

}  // namespace transxssm::ops::reference
