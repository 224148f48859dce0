// Tap k of the kernel sees the input K − 1 − k tokens back: one multiply-add of a shifted view each.
#include "ops/reference/causal_conv1d.h"

#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/silu_backward.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ops/accumulate_type.h"
#include "ops/parameter_handle.h"

namespace transxssm::ops::reference {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<at::Tensor>;

// One call in the accumulation type: the first C columns with K − 1 inputs before each row's first token, and
// which of them each tap may see.
class Taps {
 public:
  Taps(const at::Tensor& x_btw, const at::Tensor& initial_bkc, const at::Tensor& ids_bt,
       const at::Tensor& w_ck, bool one_document_per_row)
      : w_ck_(w_ck), seq_len_(x_btw.size(1)) {
    const at::Tensor x = to_accumulate_type(x_btw.narrow(2, 0, w_ck.size(0)));
    const at::Tensor before = initial_bkc.defined()
                                  ? initial_bkc.to(x.scalar_type())
                                  : at::zeros({x.size(0), history(), x.size(2)}, x.options());
    padded_ = at::cat({before, x}, 1);
    if (one_document_per_row) return;
    const at::Tensor ids = at::cat({ids_bt.narrow(1, 0, 1).expand({-1, history()}), ids_bt}, 1);
    for (int64_t k = 0; k < history(); ++k)
      visible_.push_back(ids.narrow(1, k, seq_len_).eq(ids_bt).unsqueeze(-1).to(x.scalar_type()));
  }

  int64_t taps() const { return w_ck_.size(1); }  // K
  int64_t history() const { return taps() - 1; }

  // x_{t − (K−1) + k} for every t, 0 in other documents. [B, T, C]
  at::Tensor inputs(int64_t k) const { return hidden(k, padded_.narrow(1, k, seq_len_)); }

  // `values` of the tokens t whose tap k lies in another document set to 0.
  at::Tensor hidden(int64_t k, const at::Tensor& values) const {
    return visible_.empty() || k == history() ? values : values * visible_[static_cast<size_t>(k)];
  }

  at::Tensor weights(int64_t k) const { return w_ck_.select(1, k); }

  at::Tensor pre_activation(const at::Tensor& bias_c) const {
    at::Tensor out = inputs(history()) * weights(history());
    out.add_(bias_c);
    for (int64_t k = 0; k < history(); ++k) out.addcmul_(inputs(k), weights(k));
    return out;
  }

 private:
  at::Tensor w_ck_;
  int64_t seq_len_;
  at::Tensor padded_;                // [B, K − 1 + T, C]
  std::vector<at::Tensor> visible_;  // by tap, [B, T, 1]; empty where nothing is hidden
};

// Gradient of the inputs, [B, T, C]: input j was seen by token j + (K−1) − k through tap k.
at::Tensor input_gradient(const Taps& taps, const at::Tensor& dpre) {
  const int64_t seq_len = dpre.size(1);
  at::Tensor dx = dpre * taps.weights(taps.history());
  for (int64_t k = 0; k < taps.history(); ++k) {
    const int64_t shift = taps.history() - k;
    if (shift >= seq_len) continue;
    dx.narrow(1, 0, seq_len - shift)
        .addcmul_(taps.hidden(k, dpre).narrow(1, shift, seq_len - shift), taps.weights(k));
  }
  return dx;
}

void add_parameter_gradients(const Taps& taps, const at::Tensor& dpre, const ParameterPtr& w,
                             const ParameterPtr& bias) {
  if (bias->grad.defined()) bias->grad.add_(dpre.flatten(0, 1).sum(0));
  if (!w->grad.defined()) return;
  for (int64_t k = 0; k < taps.taps(); ++k)
    w->grad.select(1, k).add_((dpre * taps.inputs(k)).flatten(0, 1).sum(0));
}

struct CausalConv1d : torch::autograd::Function<CausalConv1d> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x_btw, const OptionalTensor& /*weight*/,
                            const OptionalTensor& /*bias*/, const ParameterPtr& w, const ParameterPtr& bias,
                            const at::Tensor& ids_bt, bool one_document_per_row,
                            const OptionalTensor& initial_bkc) {
    const at::Tensor initial = initial_bkc.value_or(at::Tensor());
    ctx->save_for_backward({x_btw, initial, ids_bt});
    ctx->saved_data["w"] = to_handle(w);
    ctx->saved_data["bias"] = to_handle(bias);
    ctx->saved_data["one_document_per_row"] = one_document_per_row;

    const int64_t columns = w->weight.size(0);
    const at::Tensor pre =
        Taps(x_btw, initial, ids_bt, w->weight, one_document_per_row).pre_activation(bias->weight);
    at::Tensor y = at::empty(x_btw.sizes(), x_btw.options());
    y.narrow(2, 0, columns).copy_(at::silu(pre));
    y.narrow(2, columns, y.size(2) - columns).copy_(x_btw.narrow(2, columns, y.size(2) - columns));
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const ParameterPtr w = from_handle(ctx->saved_data["w"]), bias = from_handle(ctx->saved_data["bias"]);
    const variable_list saved = ctx->get_saved_variables();
    const Taps taps(saved[0], saved[1], saved[2], w->weight,
                    ctx->saved_data["one_document_per_row"].toBool());
    const int64_t columns = w->weight.size(0), rest = grads[0].size(2) - columns;
    const at::Tensor dy = to_accumulate_type(grads[0].narrow(2, 0, columns));
    const at::Tensor dpre = at::silu_backward(dy, taps.pre_activation(bias->weight));
    add_parameter_gradients(taps, dpre, w, bias);
    at::Tensor dx;
    if (ctx->needs_input_grad(0)) {
      dx = at::empty(grads[0].sizes(), saved[0].options());
      dx.narrow(2, 0, columns).copy_(input_gradient(taps, dpre));
      dx.narrow(2, columns, rest).copy_(grads[0].narrow(2, columns, rest));
    }
    return {dx, {}, {}, {}, {}, {}, {}, {}};
  }
};

}  // namespace

at::Tensor causal_conv1d(const at::Tensor& x_btw, const ParameterPtr& w, const ParameterPtr& bias,
                         const Documents& documents, const std::optional<at::Tensor>& initial_bkc) {
  // Every row starts a document: B documents for B rows hide nothing.
  const bool one_document_per_row = documents.offsets.numel() == documents.batch + 1;
  return CausalConv1d::apply(x_btw, graph_leaf(w), graph_leaf(bias), w, bias, documents.ids,
                             one_document_per_row, initial_bkc);
}

at::Tensor causal_conv1d_step(const at::Tensor& x_bw, const ParameterPtr& w, const ParameterPtr& bias,
                              at::Tensor& window_bkc) {
  const at::NoGradGuard no_grad;
  const int64_t columns = w->weight.size(0);
  const at::Tensor x = to_accumulate_type(x_bw.narrow(1, 0, columns));
  const at::Tensor inputs = at::cat({window_bkc.to(x.scalar_type()), x.unsqueeze(1)}, 1);  // [B, K, C]
  const at::Tensor pre = (inputs * w->weight.t()).sum(1).add_(bias->weight);
  window_bkc.copy_(inputs.narrow(1, 1, window_bkc.size(1)));
  return at::cat({at::silu(pre).to(x_bw.scalar_type()), x_bw.narrow(1, columns, x_bw.size(1) - columns)}, 1);
}

}  // namespace transxssm::ops::reference
