// Cross-entropy: the literal formula and arguments, shared by the CPU and CUDA tests.
#pragma once

#include <ATen/ops/ones.h>
#include <torch/csrc/autograd/custom_function.h>

#include "linear_cases.h"
#include "ops/cross_entropy.h"

namespace transxssm {

namespace cross_entropy_detail {

// The operator with scale 1 as a differentiable function, so that it can be checked like all others:
// gradients are formed in forward and multiplied in backward by what comes in.
struct Differentiable : torch::autograd::Function<Differentiable> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& hidden,
                            const at::Tensor& weight, const ParameterPtr& w, const at::Tensor& labels,
                            double z_loss) {
    const auto own = c10::make_intrusive<Parameter>(w->name, weight.detach(), at::zeros_like(w->grad));
    const at::Tensor one = at::ones({}, w->grad.options());
    const auto out = ops::cross_entropy_with_gradient(hidden, own, labels, one, z_loss);
    ctx->save_for_backward({out.dhidden, own->grad});
    ctx->saved_data["w"] = c10::IValue::make_capsule(w);
    return out.result.objective;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    c10::static_intrusive_pointer_cast<Parameter>(ctx->saved_data["w"].toCapsule())
        ->grad.addcmul_(saved[1], grads[0]);
    return {(saved[0] * grads[0]).to(saved[0].scalar_type()), {}, {}, {}, {}};
  }
};

}  // namespace cross_entropy_detail

// Every `skip`-th label is not counted.
inline OpCase cross_entropy_case(int64_t rows, int64_t width, int64_t vocabulary, double z_loss,
                                 int64_t skip = 3) {
  at::Tensor labels = some_tokens({rows}, vocabulary, 9);
  labels.slice(0, 0, rows, skip).fill_(-1);
  return {
      concat("cross_entropy ", rows, "x", width, " of ", vocabulary, ", z_loss ", z_loss),
      [=](const Tensors& x, const std::vector<ParameterPtr>& w) {
        return Tensors{cross_entropy_detail::Differentiable::apply(x[0], w[0]->weight, w[0], x[1], z_loss)};
      },
      [=](const Tensors& x, const Tensors& w) {
        const at::Tensor logits = x[0].matmul(w[0].t());
        const at::Tensor log_z = logits.logsumexp(1);
        const at::Tensor picked = logits.gather(1, x[1].clamp_min(0).unsqueeze(1)).squeeze(1);
        return Tensors{((log_z - picked + z_loss * log_z.square()) * x[1].ge(0)).sum()};
      },
      {f64_tensor({rows, width}, 7), labels},
      {f64_parameter("weight", {vocabulary, width}, 8)}};
}

}  // namespace transxssm
