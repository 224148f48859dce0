// Token embedding: ATen's lookup and a reproducible gradient.
#include "ops/embedding.h"

#include <ATen/core/List.h>
#include <ATen/ops/_index_put_impl.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/embedding_dense_backward.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ops/check_tensor.h"
#include "ops/parameter_handle.h"

namespace transxssm::ops {
namespace {

// grad[token] += dy of every place of the token, summed in a fixed order. ATen has no one call for that: on
// CUDA embedding_dense_backward varies from run to run, on a CPU index_put does.
void add_rows(at::Tensor grad, const at::Tensor& tokens, const at::Tensor& dy) {
  if (grad.is_cuda()) {
    // Sorts by token. "unsafe" skips a range check that would stall the device.
    at::_index_put_impl_(grad, {tokens.flatten()}, dy.flatten(0, -2), /*accumulate=*/true, /*unsafe=*/true);
  } else {
    grad.add_(at::embedding_dense_backward(dy, tokens, grad.size(0), /*padding_idx=*/-1,
                                           /*scale_grad_by_freq=*/false));
  }
}

struct Embedding : torch::autograd::Function<Embedding> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& tokens,
                            const std::optional<at::Tensor>& /*weight*/, const ParameterPtr& w) {
    ctx->saved_data["w"] = to_handle(w);
    ctx->save_for_backward({tokens});
    return at::embedding(w->weight, tokens);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const ParameterPtr w = from_handle(ctx->saved_data["w"]);
    const at::Tensor tokens = ctx->get_saved_variables()[0];
    // In the gradient's own dtype, so that a frequent token's sum is not rounded to bf16.
    add_rows(w->grad, tokens, grads[0].to(w->grad.scalar_type()).contiguous());
    return {{}, {}, {}};
  }
};

}  // namespace

at::Tensor embedding(const at::Tensor& tokens, const ParameterPtr& w) {
  expect_dtype("embedding tokens", tokens, at::kLong);
  expect_shape("embedding weight", w->weight, {-1, -1});
  return Embedding::apply(tokens, graph_leaf(w), w);
}

}  // namespace transxssm::ops
