// Chunked SSD: inside a chunk of L tokens an L×L product, between chunks a recurrence over states (Mamba-2,
// arXiv 2405.21060, section 6). With C, B rotated by document positions, w = e^{s_last − s}, e = e^s:
//   y_i = Σ_{j ≤ i} (C_i·B_j) e^{s_i − s_j} Δ_j X_j + e_i S C_i        S' = e_last S + Σ_j w_j Δ_j X_j B_jᵀ
#include "ops/reference/ssd.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mul.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ops/accumulate_type.h"
#include "ops/parameter_handle.h"

namespace transxssm::ops::reference {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<at::Tensor>;

// The last two dimensions as matrices, everything before as the batch.
at::Tensor matrices(const at::Tensor& x) { return x.flatten(0, -3); }
at::Tensor transposed(const at::Tensor& x) { return matrices(x).transpose(1, 2); }

// Inputs of one call in chunk layout; forward and backward both start from here.
struct Chunks {
  at::Tensor packed;  // [B, K, L, columns]
  TimeSteps steps;
  at::Tensor a;  // [B, K, L, H] log-decay
  ChunkMasks masks;
  ChunkDecay decay;
  at::Tensor c, b;  // [K, B, H, L, N]
  at::Tensor xdt;   // [K, B, H, L, P] Δ X

  Chunks(const SsdCall& call, const at::Tensor& packed_btw)
      : packed(packed_chunks(call, packed_btw)),
        steps(make_time_steps(call, packed)),
        a(steps.dt * call.a_log_h->weight.to(packed.scalar_type()).exp().neg()),
        masks(make_chunk_masks(call)),
        decay(make_chunk_decay(a, masks)) {
    const at::Tensor cb = load_cb(call, packed);
    c = cb[0];
    b = cb[1];
    const SsdDims& d = call.dims;
    xdt = at::empty({call.num_chunks(), call.documents.batch, d.num_heads, call.chunk_len(), d.head_dim},
                    packed.options());
    at::Tensor xdt_tokens = to_token_major(xdt);
    at::mul_out(xdt_tokens, x_view(call, packed), steps.dt.unsqueeze(-1));
  }
};

// [K + 1, B, H, P, N]: the state before each chunk and after the last.
at::Tensor forward_states(const SsdCall& call, const Chunks& chunks,
                          const OptionalTensor& initial_state_bhpn) {
  const int64_t num_chunks = call.num_chunks();
  const SsdDims& d = call.dims;
  at::Tensor states = at::empty({num_chunks + 1, call.documents.batch, d.num_heads, d.head_dim, d.state_dim},
                                chunks.xdt.options());
  if (initial_state_bhpn)
    states[0].copy_(*initial_state_bhpn);
  else
    states[0].zero_();
  at::Tensor added = matrices(states.narrow(0, 1, num_chunks));
  at::bmm_out(added, transposed(chunks.xdt * chunks.decay.to_end), matrices(chunks.b));
  for (int64_t k = 0; k < num_chunks; ++k) states[k + 1].addcmul_(states[k], chunks.decay.carry[k]);
  return states;
}

// [K, B, H, L, P], without the skip. `before`: states before each chunk.
at::Tensor forward_outputs(const Chunks& chunks, const at::Tensor& before) {
  at::Tensor y = at::bmm(matrices(chunks.c), transposed(before)).view(chunks.xdt.sizes());
  y.mul_(chunks.decay.from_carry);
  at::Tensor weights = at::bmm(matrices(chunks.c), transposed(chunks.b));
  weights.mul_(matrices(pair_decay(chunks.decay.s, chunks.masks)));
  matrices(y).baddbmm_(weights, matrices(chunks.xdt));
  return y;
}

// Back to the layout of tokens, skip added, padding dropped: [B, T, H·P].
at::Tensor outputs_by_token(const SsdCall& call, const Chunks& chunks, const at::Tensor& y,
                            at::ScalarType dtype) {
  const at::Tensor y_bklhp = to_token_major(y);
  at::Tensor out = at::empty(y_bklhp.sizes(), y.options());
  if (call.d_skip_h)
    at::addcmul_out(out, y_bklhp, x_view(call, chunks.packed), call.d_skip_h->weight.unsqueeze(-1));
  else
    out.copy_(y_bklhp);
  return out.flatten(1, 2).flatten(2).narrow(1, 0, call.documents.seq_len).to(dtype).contiguous();
}

// Gradients of the states' path, from the last chunk to the first.
struct StateGradients {
  at::Tensor states;  // [K + 1, B, H, P, N]: of the state before each chunk and after the last
  at::Tensor dc;      // [K, B, H, L, N]: share of C's gradient
  at::Tensor db;      // the same of B
  at::Tensor dxdt;    // [K, B, H, L, P]: share of the gradient of Δ X
  at::Tensor inter;   // [K, B, H, L]: gradient of s_i through e^{s_i} in the outputs
  at::Tensor added;   // [K, B, H, L]: gradient of s_last − s_j through w_j
  at::Tensor carry;   // [K, B, H]: gradient of s_last through the carried state
};

// dcb [2, K, B, H, L, N] receives the shares of C and B.
StateGradients backward_states(const SsdCall& call, const Chunks& chunks, const at::Tensor& before,
                               const at::Tensor& dy, const at::Tensor& dfinal, const at::Tensor& dcb) {
  const int64_t num_chunks = call.num_chunks();
  StateGradients g;
  g.dc = dcb[0];
  g.db = dcb[1];

  const at::Tensor dy_decayed = dy * chunks.decay.from_carry;
  at::Tensor dc = matrices(g.dc);
  at::bmm_out(dc, matrices(dy_decayed), matrices(before));
  g.inter = (g.dc * chunks.c).sum(-1);

  std::vector<int64_t> shape = before.sizes().vec();
  shape[0] = num_chunks + 1;
  g.states = at::empty(shape, before.options());
  if (dfinal.defined())
    g.states[num_chunks].copy_(dfinal);
  else
    g.states[num_chunks].zero_();
  at::Tensor dbefore = matrices(g.states.narrow(0, 0, num_chunks));
  at::bmm_out(dbefore, transposed(dy_decayed), matrices(chunks.c));
  for (int64_t k = num_chunks - 1; k >= 0; --k) g.states[k].addcmul_(g.states[k + 1], chunks.decay.carry[k]);

  const at::Tensor after = g.states.narrow(0, 1, num_chunks);
  g.carry = (before * after).sum({-1, -2}).mul_(chunks.decay.carry.flatten(2));
  g.dxdt = at::bmm(matrices(chunks.b), transposed(after)).view(chunks.xdt.sizes());
  g.dxdt.mul_(chunks.decay.to_end);
  g.added = (g.dxdt * chunks.xdt).sum(-1);
  at::Tensor db = matrices(g.db);
  at::bmm_out(db, matrices(chunks.xdt * chunks.decay.to_end), matrices(after));
  return g;
}

// Adds the share of the L×L products to g.dc, g.db and g.dxdt. Returns the gradient of s through them, formed
// from row and column sums of one matrix, so that what should cancel does: [K, B, H, L].
at::Tensor backward_pairs(const Chunks& chunks, const at::Tensor& dy, StateGradients& g) {
  at::Tensor decay = matrices(pair_decay(chunks.decay.s, chunks.masks));
  at::Tensor products = at::bmm(matrices(chunks.c), transposed(chunks.b));
  at::Tensor dproducts = at::bmm(matrices(dy), transposed(chunks.xdt)).mul_(decay);
  matrices(g.dc).baddbmm_(dproducts, matrices(chunks.b));
  matrices(g.db).baddbmm_(dproducts.transpose(1, 2), matrices(chunks.c));
  const at::Tensor weights = decay.mul_(products);
  matrices(g.dxdt).baddbmm_(weights.transpose(1, 2), matrices(dy));
  const at::Tensor through_decay = products.mul_(dproducts);
  // The diagonal has no decay. It would cancel, but swamp the rest where the decay is steep.
  through_decay.diagonal(0, 1, 2).zero_();
  return (through_decay.sum(-1) - through_decay.sum(-2)).view(g.inter.sizes());
}

// Gradient of the log-decays, [B, K, L, H]. a_t reaches s_i of every later token of its document in the
// chunk, the end-of-chunk weights of earlier ones, and the carried state.
at::Tensor log_decay_gradient(const Chunks& chunks, const at::Tensor& ds, const StateGradients& g) {
  const at::Tensor visible = chunks.masks.visible.to(at::kDouble);
  const at::Tensor later = (ds + g.inter).transpose(0, 1).to(at::kDouble);  // [B, K, H, L]
  const at::Tensor earlier = g.added.transpose(0, 1).to(at::kDouble);
  at::Tensor da = at::matmul(later, visible);
  da.add_(at::matmul(earlier, visible.tril(-1).transpose(-1, -2)));
  da.add_(g.carry.transpose(0, 1).unsqueeze(-1)).masked_fill_(chunks.masks.starts_alone, 0);
  return da.transpose(2, 3).to(ds.scalar_type());
}

void add_gradient(const ParameterPtr& parameter, const at::Tensor& gradient_bklh) {
  if (parameter->grad.defined()) parameter->grad.add_(gradient_bklh.sum({0, 1, 2}));
}

// X, Δ and the parameters, once the gradients of Δ X (dxdt) and of the log-decays (da) are known.
void backward_inputs(const SsdCall& call, const Chunks& chunks, const at::Tensor& dy, const at::Tensor& dxdt,
                     const at::Tensor& da, const at::Tensor& grad_bklw) {
  const at::Tensor x = x_view(call, chunks.packed);
  const at::Tensor dxdt_tokens = to_token_major(dxdt), dy_tokens = to_token_major(dy);
  at::Tensor dx = x_view(call, grad_bklw);
  at::mul_out(dx, dxdt_tokens, chunks.steps.dt.unsqueeze(-1));
  if (call.d_skip_h) {
    dx.addcmul_(dy_tokens, call.d_skip_h->weight.unsqueeze(-1));
    add_gradient(call.d_skip_h, (dy_tokens * x).sum(-1));
  }
  const at::Tensor da_ddt = call.a_log_h->weight.exp().neg();
  at::Tensor dtau = (dxdt_tokens * x).sum(-1);
  dtau.addcmul_(da, da_ddt).mul_(chunks.steps.pre_activation.sigmoid());
  // Padding has a fixed Δ of 0.
  dtau.flatten(1, 2).narrow(1, call.documents.seq_len, call.padded_len() - call.documents.seq_len).zero_();
  grad_bklw.narrow(-1, call.cb_columns() + call.x_columns(), call.dims.num_heads).copy_(dtau);
  add_gradient(call.dt_bias_h, dtau);
  add_gradient(call.a_log_h, da * chunks.a);
}

struct Ssd : torch::autograd::Function<Ssd> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& packed_btw,
                               const OptionalTensor& initial_state_bhpn, const OptionalTensor& /*a_log*/,
                               const OptionalTensor& /*dt_bias*/, const OptionalTensor& /*d_skip*/,
                               const c10::intrusive_ptr<SsdCall>& call) {
    const Chunks chunks(*call, packed_btw);
    const at::Tensor states = forward_states(*call, chunks, initial_state_bhpn);
    const at::Tensor before = states.narrow(0, 0, call->num_chunks());
    const at::Tensor y = forward_outputs(chunks, before);
    ctx->save_for_backward({packed_btw, before});
    ctx->saved_data["call"] = c10::IValue::make_capsule(call);
    ctx->set_materialize_grads(false);
    return {outputs_by_token(*call, chunks, y, packed_btw.scalar_type()), states[call->num_chunks()].clone()};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto call = c10::static_intrusive_pointer_cast<SsdCall>(ctx->saved_data["call"].toCapsule());
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &packed_btw = saved[0], &before = saved[1];
    const Chunks chunks(*call, packed_btw);

    const at::Tensor dy = chunked_output_gradient(*call, chunks, grads[0]);
    const at::Tensor dcb =
        at::empty({2, dy.size(0), dy.size(1), dy.size(2), dy.size(3), call->dims.state_dim}, dy.options());
    StateGradients g = backward_states(*call, chunks, before, dy, grads[1], dcb);
    const at::Tensor ds = backward_pairs(chunks, dy, g);
    const at::Tensor da = log_decay_gradient(chunks, ds, g);

    const int64_t columns = packed_btw.size(2), used = chunks.packed.size(-1);
    at::Tensor grad = at::empty({call->documents.batch, call->padded_len(), columns}, dy.options());
    grad.narrow(2, used, columns - used).zero_();
    const at::Tensor grad_bklw = grad.unflatten(1, {call->num_chunks(), call->chunk_len()});
    store_cb_gradient(*call, dcb, grad_bklw);
    backward_inputs(*call, chunks, dy, g.dxdt, da, grad_bklw);
    return {grad.narrow(1, 0, call->documents.seq_len).to(packed_btw.scalar_type()).contiguous(),
            call->has_initial_state ? g.states[0] : at::Tensor(),
            {},
            {},
            {},
            {}};
  }

  // dy [B, T, H·P] (undefined: zero) in chunk layout, zero on padding.
  static at::Tensor chunked_output_gradient(const SsdCall& call, const Chunks& chunks,
                                            const at::Tensor& dy_btw) {
    const int64_t seq_len = call.documents.seq_len;
    at::Tensor out = at::empty_like(chunks.xdt);
    if (!dy_btw.defined()) return out.zero_();
    const int64_t padding = call.padded_len() - seq_len;
    const at::Tensor padded = padding > 0 ? at::constant_pad_nd(dy_btw, {0, 0, 0, padding}) : dy_btw;
    return out.copy_(to_chunk_major(padded.unflatten(1, {call.num_chunks(), call.chunk_len()})
                                        .unflatten(-1, {call.dims.num_heads, call.dims.head_dim})));
  }
};

}  // namespace

SsdResult ssd(const c10::intrusive_ptr<SsdCall>& call, const at::Tensor& packed_btw,
              const OptionalTensor& initial_state_bhpn) {
  const variable_list out = Ssd::apply(packed_btw, initial_state_bhpn, graph_leaf(call->a_log_h),
                                       graph_leaf(call->dt_bias_h), graph_leaf(call->d_skip_h), call);
  return {out[0], out[1]};
}

}  // namespace transxssm::ops::reference
