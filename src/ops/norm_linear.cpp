#include "ops/norm_linear.h"

#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ops/check_tensor.h"
#include "ops/linear.h"
#include "ops/parameter_handle.h"
#include "ops/rms_norm_rows.h"

namespace transxssm::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Everything but the tensors that autograd has to see.
struct Call : torch::CustomClassHolder {
  ParameterPtr r, w, r_out, projection;
  double eps = 0;
  bool keep = false, has_branch = false;
};
using CallPtr = c10::intrusive_ptr<Call>;

struct ResidualNormLinear : torch::autograd::Function<ResidualNormLinear> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x,
                               const std::optional<at::Tensor>& branch,
                               const std::optional<at::Tensor>& /*w*/,
                               const std::optional<at::Tensor>& /*r_out*/,
                               const std::optional<at::Tensor>& /*projection*/, const CallPtr& call) {
    const auto [sum, u, rstd] =
        residual_rms_norm_fwd({{x, call->r}, branch.value_or(at::Tensor())}, call->w->weight, call->eps);
    const at::Tensor y = linear(u, call->projection);
    ctx->save_for_backward({sum, rstd, call->keep ? u : at::Tensor()});
    ctx->saved_data["call"] = c10::IValue::make_capsule(call);
    ctx->set_materialize_grads(false);
    return {sum, y};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto call = c10::static_intrusive_pointer_cast<Call>(ctx->saved_data["call"].toCapsule());
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &sum = saved[0], &rstd = saved[1], &kept = saved[2], &dy = grads[1];
    const bool trained = dy.defined() && call->projection->grad.defined();
    const at::Tensor du = dy.defined() ? input_gradient(dy, call->projection) : at::Tensor();
    const auto d = residual_rms_norm_bwd(du, grads[0], sum, call->r_out, call->w, rstd,
                                         /*rebuild=*/!call->keep && trained);
    if (trained) add_weight_gradient(call->projection, as_rows(dy), as_rows(call->keep ? kept : d.y));
    return {d.d_normed, call->has_branch ? d.d_normed : at::Tensor(), {}, {}, {}, {}};
  }
};

}  // namespace

std::pair<Stream, at::Tensor> residual_norm_linear(const Residual& in, const ParameterPtr& w, double eps,
                                                   const ParameterPtr& r_out, const ParameterPtr& projection,
                                                   NormedInput normed) {
  check_residual(in, w, r_out);
  const at::Tensor& x = in.stream.x;
  expect_dtype("residual_norm_linear x", x, projection->weight.scalar_type());
  expect_shape("residual_norm_linear projection", projection->weight, {-1, x.size(-1)});
  const auto call = c10::make_intrusive<Call>();
  call->r = in.stream.r;
  call->w = w;
  call->r_out = r_out;
  call->projection = projection;
  call->eps = eps;
  call->keep = normed == NormedInput::kept;
  call->has_branch = in.branch.defined();
  const auto out = ResidualNormLinear::apply(x, given(in.branch), graph_leaf(w), graph_leaf(r_out),
                                             graph_leaf(projection), call);
  return {{out[0], r_out}, out[1]};
}

}  // namespace transxssm::ops
