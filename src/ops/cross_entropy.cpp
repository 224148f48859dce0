// The output head and the loss, chunk by chunk: the gradient of a chunk is formed while its logits exist.
#include "ops/cross_entropy.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/_softmax.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ops/accumulate_type.h"
#include "ops/check_tensor.h"
#include "ops/linear.h"
#include "ops/parameter_handle.h"

namespace transxssm::ops {
namespace {

// Bytes of f32 logits that exist at once. On a CPU they stay in the last-level cache; a GPU needs enough rows
// to keep its matrix units busy and may hold a few copies of this size (bf16 logits, probabilities, their
// gradient).
constexpr int64_t kCpuChunkBytes = int64_t{4} << 20;
constexpr int64_t kCudaChunkBytes = int64_t{128} << 20;

int64_t chunk_rows(const at::Tensor& hidden, int64_t vocabulary) {
  const int64_t bytes = hidden.is_cuda() ? kCudaChunkBytes : kCpuChunkBytes;
  return std::max<int64_t>(1, bytes / (vocabulary * static_cast<int64_t>(sizeof(float))));
}

struct Chunk {
  at::Tensor losses;      // [rows] accumulation type, 0 where not counted
  at::Tensor objectives;  // likewise, with the z-loss
  at::Tensor dlogits;     // [rows, V] dtype of hidden, or undefined
};

Chunk loss_of_rows(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels,
                   double z_loss, bool with_gradient) {
  const at::Tensor counted = labels.ge(0);
  const at::Tensor targets = labels.clamp_min(0).unsqueeze(1);
  const at::Tensor rounded_logits = at::mm(hidden, weight.t());
  at::Tensor logits = to_accumulate_type(rounded_logits);
  const at::Tensor target_logits = logits.gather(1, targets).squeeze(1);
  const at::Tensor largest = logits.amax(1);
  at::Tensor p = logits;
  at::_softmax_out(p, logits, 1, /*half_to_float=*/false);  // in place
  // The largest probability is at least 1/V, so its logarithm is as good as a log-sum-exp of the logits.
  const at::Tensor log_z = largest - p.amax(1).log();

  Chunk out;
  out.losses = (log_z - target_logits).mul_(counted);
  out.objectives = out.losses + (log_z.square() * z_loss).mul_(counted);
  if (!with_gradient) return out;
  // d/dlogits = p (1 + 2 z_loss log Z) − onehot(label), rows that are not counted 0
  p.mul_(((1 + 2 * z_loss * log_z) * counted).unsqueeze(1));
  p.scatter_(1, targets, p.gather(1, targets) - counted.unsqueeze(1).to(p.scalar_type()));
  out.dlogits = p.to(hidden.scalar_type());
  return out;
}

struct CrossEntropy : torch::autograd::Function<CrossEntropy> {
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* ctx,
                                                const at::Tensor& hidden,
                                                const std::optional<at::Tensor>& /*weight*/,
                                                const ParameterPtr& w, const at::Tensor& labels,
                                                double z_loss, bool with_gradient) {
    const at::Tensor& weight = w->weight;
    const int64_t rows = hidden.size(0);
    const at::Tensor losses = at::empty({rows}, hidden.options().dtype(accumulate_type(hidden)));
    const at::Tensor objectives = at::empty_like(losses);
    at::Tensor dhidden, dw;
    if (with_gradient) {
      dhidden = at::empty(hidden.sizes(), hidden.options());
      if (w->grad.defined()) dw = at::zeros_like(w->grad);
    }
    const int64_t step = chunk_rows(hidden, weight.size(0));
    for (int64_t begin = 0; begin < rows; begin += step) {
      const int64_t count = std::min(step, rows - begin);
      const at::Tensor x = hidden.narrow(0, begin, count);
      const Chunk chunk = loss_of_rows(x, weight, labels.narrow(0, begin, count), z_loss, with_gradient);
      losses.narrow(0, begin, count).copy_(chunk.losses);
      objectives.narrow(0, begin, count).copy_(chunk.objectives);
      if (!with_gradient) continue;
      at::Tensor dx = dhidden.narrow(0, begin, count);
      at::mm_out(dx, chunk.dlogits, weight);
      if (dw.defined()) add_weight_gradient(dw, chunk.dlogits, x);
    }
    ctx->save_for_backward({dhidden, dw});
    ctx->saved_data["w"] = to_handle(w);
    const at::Tensor loss = losses.sum();
    ctx->mark_non_differentiable({loss});
    return {objectives.sum(), loss};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const ParameterPtr w = from_handle(ctx->saved_data["w"]);
    const auto saved = ctx->get_saved_variables();
    const at::Tensor& scale = grads[0];
    if (w->grad.defined()) w->grad.addcmul_(saved[1], scale);
    return {(saved[0] * scale).to(saved[0].scalar_type()), {}, {}, {}, {}, {}};
  }
};

}  // namespace

CrossEntropyResult cross_entropy(const at::Tensor& hidden, const ParameterPtr& w, const at::Tensor& labels,
                                 double z_loss) {
  expect_shape("cross_entropy hidden", hidden, {labels.numel(), w->weight.size(1)});
  expect_dtype("cross_entropy hidden", hidden, w->weight.scalar_type());
  expect_dtype("cross_entropy labels", labels, at::kLong);
  const std::optional<at::Tensor> weight = graph_leaf(w);
  const bool with_gradient =
      at::GradMode::is_enabled() && (hidden.requires_grad() || (weight && weight->requires_grad()));
  const auto out = CrossEntropy::apply(hidden, weight, w, labels, z_loss, with_gradient);
  return {out[0], out[1]};
}

}  // namespace transxssm::ops
