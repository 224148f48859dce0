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

at::Tensor as_rows(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

// Everything but the tensors that autograd has to see.
struct Call : torch::CustomClassHolder {
  Call(ParameterPtr scale, ParameterPtr norm, ParameterPtr matrix, double norm_eps, bool keep_normed)
      : r(std::move(scale)),
        w(std::move(norm)),
        projection(std::move(matrix)),
        eps(norm_eps),
        keep(keep_normed) {}
  ParameterPtr r, w, projection;
  double eps;
  bool keep;
};
using CallPtr = c10::intrusive_ptr<Call>;

struct ResidualNormLinear : torch::autograd::Function<ResidualNormLinear> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x,
                               const std::optional<at::Tensor>& branch,
                               const std::optional<at::Tensor>& /*r*/, const std::optional<at::Tensor>& /*w*/,
                               const std::optional<at::Tensor>& /*projection*/, const CallPtr& call) {
    const auto [sum, u, rstd] =
        residual_rms_norm_fwd(x, branch.value_or(at::Tensor()), call->r ? call->r->weight : at::Tensor(),
                              call->w->weight, call->eps);
    const at::Tensor y = linear(u, call->projection);
    ctx->save_for_backward({sum, rstd, call->r ? x : at::Tensor(), call->keep ? u : at::Tensor()});
    ctx->saved_data["call"] = c10::IValue::make_capsule(call);
    ctx->saved_data["has_branch"] = branch.has_value();
    ctx->set_materialize_grads(false);
    return {sum, y};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto call = c10::static_intrusive_pointer_cast<Call>(ctx->saved_data["call"].toCapsule());
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &sum = saved[0], &rstd = saved[1], &x = saved[2], &kept = saved[3], &dy = grads[1];
    const at::Tensor& dw = call->projection->grad;
    const at::Tensor du = dy.defined() ? input_gradient(dy, call->projection) : at::Tensor();
    const auto d =
        residual_rms_norm_bwd(du, grads[0], sum, x, call->r, call->w, rstd, !call->keep && dw.defined());
    if (dy.defined() && dw.defined()) add_weight_gradient(dw, as_rows(dy), as_rows(call->keep ? kept : d.y));
    const bool has_branch = ctx->saved_data["has_branch"].toBool();
    return {d.dx, has_branch ? d.d_normed : at::Tensor(), {}, {}, {}, {}};
  }
};

}  // namespace

std::pair<at::Tensor, at::Tensor> residual_norm_linear(const Residual& in, const ParameterPtr& w, double eps,
                                                       const ParameterPtr& projection, NormedInput normed) {
  const at::Tensor& x = in.x;
  expect_shape("residual_norm_linear weight", w->weight, {x.size(-1)});
  expect_dtype("residual_norm_linear x", x, projection->weight.scalar_type());
  expect_shape("residual_norm_linear projection", projection->weight, {-1, x.size(-1)});
  std::optional<at::Tensor> branch;
  if (in.branch.defined()) {
    expect_shape("residual_norm_linear branch", in.branch, x.sizes());
    expect_dtype("residual_norm_linear branch", in.branch, x.scalar_type());
    branch = in.branch;
  }
  expect(branch || !in.r, "residual_norm_linear: a scale without a branch");
  if (in.r) expect_shape("residual_norm_linear scale", in.r->weight, {x.size(-1)});
  const auto call = c10::make_intrusive<Call>(in.r, w, projection, eps, normed == NormedInput::kept);
  const auto out =
      ResidualNormLinear::apply(x, branch, graph_leaf(in.r), graph_leaf(w), graph_leaf(projection), call);
  return {out[0], out[1]};
}

}  // namespace transxssm::ops
