// Token embedding: CUDA kernels or ATen's lookup, with a reproducible gradient either way.
#include "ops/embedding.h"

#include <ATen/core/List.h>
#include <ATen/ops/_index_put_impl.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/embedding_dense_backward.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <torch/csrc/autograd/custom_function.h>

#include "csrc_cuda/embedding/params.h"
#include "ops/check_tensor.h"
#include "ops/cuda_stream.h"
#include "ops/parameter_handle.h"

namespace transxssm::ops {
namespace {

bool has_kernel(const at::Tensor& weight) {
  return weight.is_cuda() && weight.scalar_type() == at::kBFloat16 && weight.size(1) % 8 == 0;
}

at::Tensor look_up(const at::Tensor& weight, const at::Tensor& tokens) {
  if (!has_kernel(weight)) return at::embedding(weight, tokens);
  const c10::DeviceGuard guard(weight.device());
  std::vector<int64_t> shape = tokens.sizes().vec();
  shape.push_back(weight.size(1));
  const at::Tensor ids = tokens.contiguous(), out = at::empty(shape, weight.options().requires_grad(false));
  kernels::embedding_forward({.table = weight.const_data_ptr(),
                              .tokens = ids.const_data_ptr<int64_t>(),
                              .out = out.mutable_data_ptr(),
                              .count = ids.numel(),
                              .d = weight.size(1)},
                             current_stream(weight));
  return out;
}

void add_rows_by_kernel(const at::Tensor& grad, const at::Tensor& tokens, const at::Tensor& dy) {
  const c10::DeviceGuard guard(grad.device());
  const at::Tensor ids = tokens.contiguous(), rows = dy.contiguous();
  const int64_t vocabulary = grad.size(0), d = grad.size(1);
  const auto bytes = static_cast<int64_t>(kernels::embedding_workspace_bytes(ids.numel(), d, vocabulary));
  const at::Tensor workspace = at::empty({bytes}, grad.options().dtype(at::kByte));
  kernels::embedding_backward({.dy = rows.const_data_ptr(),
                               .tokens = ids.const_data_ptr<int64_t>(),
                               .grad = grad.mutable_data_ptr<float>(),
                               .workspace = workspace.mutable_data_ptr(),
                               .count = ids.numel(),
                               .d = d,
                               .vocabulary = vocabulary},
                              current_stream(grad));
}

// grad[token] += dy of every place of the token, in the gradient's own dtype (a frequent token's sum is not
// rounded to bf16) and in a fixed order. ATen has no one call for that: on CUDA embedding_dense_backward
// varies from run to run, on a CPU index_put does.
void add_rows(at::Tensor grad, const at::Tensor& tokens, const at::Tensor& dy) {
  const at::Tensor rows = dy.to(grad.scalar_type()).contiguous();
  if (grad.is_cuda()) {
    // Sorts by token. "unsafe" skips a range check that would stall the device.
    at::_index_put_impl_(grad, {tokens.flatten()}, rows.flatten(0, -2), /*accumulate=*/true, /*unsafe=*/true);
  } else {
    grad.add_(at::embedding_dense_backward(rows, tokens, grad.size(0), /*padding_idx=*/-1,
                                           /*scale_grad_by_freq=*/false));
  }
}

struct Embedding : torch::autograd::Function<Embedding> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& tokens,
                            const std::optional<at::Tensor>& /*weight*/, const ParameterPtr& w) {
    ctx->saved_data["w"] = to_handle(w);
    ctx->save_for_backward({tokens});
    return look_up(w->weight, tokens);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const ParameterPtr w = from_handle(ctx->saved_data["w"]);
    const at::Tensor tokens = ctx->get_saved_variables()[0];
    if (!w->begin_adding()) at::Tensor(w->grad).zero_();  // only the rows that occur are written
    if (has_kernel(w->weight))
      add_rows_by_kernel(w->grad, tokens, grads[0]);
    else
      add_rows(w->grad, tokens, grads[0]);
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
