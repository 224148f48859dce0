// The three RMSNorm operators as autograd Functions. They save stored inputs and 1/rms; all else is rebuilt.
#include "ops/rms_norm.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/silu_backward.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ops/accumulate_type.h"
#include "ops/check_tensor.h"
#include "ops/parameter_handle.h"
#include "ops/rms_norm_rows.h"

namespace transxssm::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x,
                            const std::optional<at::Tensor>& /*weight*/, const ParameterPtr& w, double eps) {
    const auto [sum, y, rstd] = residual_rms_norm_fwd({{x, {}}, {}}, w->weight, eps);
    ctx->save_for_backward({x, rstd});
    ctx->saved_data["w"] = to_handle(w);
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const ParameterPtr w = from_handle(ctx->saved_data["w"]);
    const auto saved = ctx->get_saved_variables();
    return {residual_rms_norm_bwd(grads[0], {}, saved[0], {}, w, saved[1], false).d_normed, {}, {}, {}};
  }
};

struct ResidualRmsNorm : torch::autograd::Function<ResidualRmsNorm> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x,
                               const std::optional<at::Tensor>& branch,
                               const std::optional<at::Tensor>& /*w_weight*/,
                               const std::optional<at::Tensor>& /*r_out_weight*/, const ParameterPtr& r,
                               const ParameterPtr& w, double eps, const ParameterPtr& r_out) {
    const auto [sum, u, rstd] =
        residual_rms_norm_fwd({{x, r}, branch.value_or(at::Tensor())}, w->weight, eps);
    ctx->save_for_backward({sum, rstd});
    ctx->saved_data["w"] = to_handle(w);
    ctx->saved_data["r_out"] = to_handle(r_out);
    ctx->saved_data["has_branch"] = branch.has_value();
    ctx->set_materialize_grads(false);
    return {sum, u};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const ParameterPtr w = from_handle(ctx->saved_data["w"]), r_out = from_handle(ctx->saved_data["r_out"]);
    const auto saved = ctx->get_saved_variables();
    const auto d = residual_rms_norm_bwd(grads[1], grads[0], saved[0], r_out, w, saved[1], false).d_normed;
    return {d, ctx->saved_data["has_branch"].toBool() ? d : at::Tensor(), {}, {}, {}, {}, {}, {}};
  }
};

// y ⊙ silu(z), not rounded.
at::Tensor gated(const at::Tensor& y, const at::Tensor& z) {
  return at::mul(at::silu(to_accumulate_type(z)), y);
}

struct GatedRmsNorm : torch::autograd::Function<GatedRmsNorm> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& y, const at::Tensor& z,
                            const std::optional<at::Tensor>& /*weight*/, const ParameterPtr& w, double eps) {
    const auto [out, rstd] = has_gated_rms_norm_kernel(y)
                                 ? gated_rms_norm_kernel_fwd(y, z, w->weight, eps)
                                 : reference::rms_norm_fwd(gated(y, z), w->weight, eps);
    ctx->save_for_backward({y, z, rstd});
    ctx->saved_data["w"] = to_handle(w);
    return out.to(y.scalar_type());
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const ParameterPtr w = from_handle(ctx->saved_data["w"]);
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &y = saved[0], &z = saved[1], &rstd = saved[2];
    if (has_gated_rms_norm_kernel(y)) {
      const at::Tensor dz = at::empty(z.sizes(), z.options());
      const at::Tensor dy = gated_rms_norm_kernel_bwd(grads[0], y, z, w, rstd, dz);
      return {dy, dz, {}, {}, {}};
    }
    const at::Tensor d_gated = reference::rms_norm_bwd(grads[0], gated(y, z), w->weight, rstd, {}, w->grad);
    const at::Tensor gate = to_accumulate_type(z);
    const at::Tensor dy = at::mul(d_gated, at::silu(gate));
    const at::Tensor dz = at::silu_backward(at::mul(d_gated, y), gate);
    return {dy.to(y.scalar_type()), dz.to(z.scalar_type()), {}, {}, {}};
  }
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const ParameterPtr& w, double eps) {
  expect_shape("rms_norm weight", w->weight, {x.size(-1)});
  return RmsNorm::apply(x, graph_leaf(w), w, eps);
}

std::pair<Stream, at::Tensor> residual_rms_norm(const Residual& in, const ParameterPtr& w, double eps,
                                                const ParameterPtr& r_out) {
  check_residual(in, w, r_out);
  const auto out = ResidualRmsNorm::apply(in.stream.x, given(in.branch), graph_leaf(w), graph_leaf(r_out),
                                          in.stream.r, w, eps, r_out);
  return {{out[0], r_out}, out[1]};
}

at::Tensor gated_rms_norm(const at::Tensor& y, const at::Tensor& z, const ParameterPtr& w, double eps) {
  expect_shape("gated_rms_norm weight", w->weight, {y.size(-1)});
  expect_shape("gated_rms_norm gate", z, y.sizes());
  expect_dtype("gated_rms_norm gate", z, y.scalar_type());
  return GatedRmsNorm::apply(y, z, graph_leaf(w), w, eps);
}

}  // namespace transxssm::ops
