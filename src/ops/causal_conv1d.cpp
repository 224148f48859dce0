// Argument checks of the causal convolution and its decode step.
#include "ops/causal_conv1d.h"

#include "core/check.h"
#include "ops/accumulate_type.h"
#include "ops/causal_conv1d_kernel.h"
#include "ops/check_tensor.h"
#include "ops/reference/causal_conv1d.h"

namespace transxssm::ops {
namespace {

void check_parameters(const at::Tensor& x, const ParameterPtr& w, const ParameterPtr& bias) {
  const at::ScalarType acc = accumulate_type(x);
  expect_shape("causal_conv1d weight", w->weight, {-1, -1});
  expect_dtype("causal_conv1d weight", w->weight, acc);
  expect_shape("causal_conv1d bias", bias->weight, {w->weight.size(0)});
  expect_dtype("causal_conv1d bias", bias->weight, acc);
  expect(x.size(-1) >= w->weight.size(0),
         concat("causal_conv1d x: expected at least ", w->weight.size(0), " columns, got ", x.size(-1)));
}

}  // namespace

at::Tensor causal_conv1d(const at::Tensor& x_btw, const ParameterPtr& w, const ParameterPtr& bias,
                         const Documents& documents, const std::optional<at::Tensor>& initial_bkc) {
  expect_shape("causal_conv1d x", x_btw, {documents.batch, documents.seq_len, -1});
  check_parameters(x_btw, w, bias);
  if (initial_bkc)
    expect_shape("causal_conv1d initial inputs", *initial_bkc,
                 {documents.batch, w->weight.size(1) - 1, w->weight.size(0)});
  if (!initial_bkc && has_causal_conv1d_kernel(x_btw, w))
    return causal_conv1d_kernel(x_btw, w, bias, documents);
  return reference::causal_conv1d(x_btw, w, bias, documents, initial_bkc);
}

at::Tensor causal_conv1d_step(const at::Tensor& x_bw, const ParameterPtr& w, const ParameterPtr& bias,
                              at::Tensor& window_bkc) {
  expect_shape("causal_conv1d_step x", x_bw, {-1, -1});
  check_parameters(x_bw, w, bias);
  expect_shape("causal_conv1d_step window", window_bkc,
               {x_bw.size(0), w->weight.size(1) - 1, w->weight.size(0)});
  return reference::causal_conv1d_step(x_bw, w, bias, window_bkc);
}

}  // namespace transxssm::ops
