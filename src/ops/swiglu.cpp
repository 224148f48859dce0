// SwiGLU and the product that follows it as autograd Functions over rows.
#include "ops/swiglu.h"

#include <torch/csrc/autograd/custom_function.h>

#include "core/check.h"
#include "ops/check_tensor.h"
#include "ops/linear.h"
#include "ops/parameter_handle.h"
#include "ops/swiglu_rows.h"

namespace transxssm::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor activate(const at::Tensor& packed) {
  std::vector<int64_t> shape = packed.sizes().vec();
  shape.back() /= 2;
  return swiglu_rows_fwd(as_rows(packed)).view(shape);
}

struct Swiglu : torch::autograd::Function<Swiglu> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& packed) {
    ctx->save_for_backward({packed});
    return activate(packed);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const at::Tensor packed = ctx->get_saved_variables()[0];
    const auto out = swiglu_rows_bwd(as_rows(grads[0]), as_rows(packed), /*rebuild=*/false);
    return {out.d_packed.view(packed.sizes())};
  }
};

struct SwigluLinear : torch::autograd::Function<SwigluLinear> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& packed,
                            const std::optional<at::Tensor>& /*weight*/, const ParameterPtr& w) {
    ctx->saved_data["w"] = to_handle(w);
    ctx->save_for_backward({packed});
    return linear(activate(packed), w);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const ParameterPtr w = from_handle(ctx->saved_data["w"]);
    const at::Tensor packed = ctx->get_saved_variables()[0], dy = as_rows(grads[0]);
    const bool trained = w->grad.defined();
    const auto out = swiglu_rows_bwd(input_gradient(dy, w), as_rows(packed), /*rebuild=*/trained);
    if (trained) add_weight_gradient(w, dy, out.h);
    return {out.d_packed.view(packed.sizes()), {}, {}};
  }
};

void check_packed(const at::Tensor& packed) {
  expect(packed.dim() > 0 && packed.size(-1) > 0 && packed.size(-1) % 2 == 0,
         concat("swiglu: expected [..., 2F], got ", packed.sizes()));
}

}  // namespace

at::Tensor swiglu(const at::Tensor& packed) {
  check_packed(packed);
  return Swiglu::apply(packed);
}

at::Tensor swiglu_linear(const at::Tensor& packed, const ParameterPtr& w) {
  check_packed(packed);
  expect_dtype("swiglu_linear packed", packed, w->weight.scalar_type());
  expect_shape("swiglu_linear weight", w->weight, {-1, packed.size(-1) / 2});
  return SwigluLinear::apply(packed, graph_leaf(w), w);
}

}  // namespace transxssm::ops
