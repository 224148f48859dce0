#include "ops/linear.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ops/check_tensor.h"
#include "ops/gemm.h"
#include "ops/parameter_handle.h"

namespace transxssm::ops {
namespace {

struct Linear : torch::autograd::Function<Linear> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                            const std::optional<at::Tensor>& /*weight*/, const ParameterPtr& w) {
    ctx->saved_data["w"] = to_handle(w);
    ctx->save_for_backward({x});
    std::vector<int64_t> shape = x.sizes().vec();
    shape.back() = w->weight.size(0);
    const at::Tensor y = at::empty(shape, x.options());  // no view: attention rotates its input in place
    multiply_into(as_rows(y), as_rows(x), w->weight);
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const ParameterPtr w = from_handle(ctx->saved_data["w"]);
    const at::Tensor x = ctx->get_saved_variables()[0];
    if (w->grad.defined()) add_weight_gradient(w, as_rows(grads[0]), as_rows(x));
    return {ctx->needs_input_grad(0) ? input_gradient(grads[0], w) : at::Tensor(), {}, {}};
  }
};

}  // namespace

at::Tensor linear(const at::Tensor& x, const ParameterPtr& w) {
  expect_dtype("linear x", x, w->weight.scalar_type());
  expect_shape("linear weight", w->weight, {-1, x.size(-1)});
  return Linear::apply(x, graph_leaf(w), w);
}

at::Tensor input_gradient(const at::Tensor& dy, const ParameterPtr& w) {
  std::vector<int64_t> shape = dy.sizes().vec();
  shape.back() = w->weight.size(1);
  const at::Tensor dx = at::empty(shape, dy.options());
  input_gradient_into(as_rows(dx), as_rows(dy), w->weight);
  return dx;
}

void multiply_into(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight) {
  if (has_gemm(x)) return gemm(kernels::GemmKind::forward, y, x, weight);
  at::Tensor out = y;
  at::mm_out(out, x, weight.t());
}

void input_gradient_into(const at::Tensor& dx, const at::Tensor& dy, const at::Tensor& weight) {
  if (has_gemm(dy)) return gemm(kernels::GemmKind::input_gradient, dx, dy, weight);
  at::Tensor out = dx;
  at::mm_out(out, dy, weight);
}

void add_weight_gradient(const ParameterPtr& w, const at::Tensor& dy, const at::Tensor& x) {
  const bool add = w->begin_adding();
  at::Tensor grad = w->grad;
  if (has_gemm(dy))
    return gemm(kernels::GemmKind::weight_gradient, grad, dy, x,
                add ? kernels::GemmResult::added_to : kernels::GemmResult::replaced);
  const at::Tensor left = dy.t().to(grad.scalar_type()), right = x.to(grad.scalar_type());
  if (add)
    at::addmm_out(grad, grad, left, right);
  else
    at::mm_out(grad, left, right);
}

}  // namespace transxssm::ops
