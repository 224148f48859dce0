// Attention as one autograd Function from the packed projection to the heads' output.
#include "ops/attention.h"

#include <optional>

#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/check.h"
#include "ops/attention_flash.h"
#include "ops/attention_heads.h"
#include "ops/attention_kernel.h"
#include "ops/check_tensor.h"
#include "ops/reference/attention.h"
#include "ops/rotate_into.h"

namespace transxssm::ops {
namespace {

// The arguments that carry no gradient, kept for backward.
struct AttentionCall : torch::CustomClassHolder {
  AttentionDims dims;
  std::optional<RopeTable> rope;
  Documents documents;
  bool flash = false;
};
using AttentionCallPtr = c10::intrusive_ptr<AttentionCall>;

// On CUDA the order of its sums varies.
bool takes_flash(const AttentionDims& d, at::Device device, at::ScalarType dtype, bool deterministic) {
  return flash_attention_fits(device, dtype, d.head_dim) && !(device.is_cuda() && deterministic);
}

struct Attention : torch::autograd::Function<Attention> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& packed,
                            const AttentionCallPtr& call) {
    const RopeTable* rope = call->rope ? &*call->rope : nullptr;
    const AttentionHeads x = rotated_heads(call->dims, packed, rope, call->documents.positions);
    FlashResult result;
    if (call->flash)
      result = flash_attention_fwd(x, call->documents);
    else
      result.out_bthp = reference::attention_fwd(x, call->documents.ids);
    const at::Tensor out = result.out_bthp.flatten(2);
    ctx->saved_data["call"] = c10::IValue::make_capsule(call);
    torch::autograd::variable_list saved{packed};
    if (call->flash) saved.push_back(out);
    saved.insert(saved.end(), result.saved.begin(), result.saved.end());
    ctx->save_for_backward(saved);
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto call = c10::static_intrusive_pointer_cast<AttentionCall>(ctx->saved_data["call"].toCapsule());
    const AttentionDims& d = call->dims;
    const RopeTable* rope = call->rope ? &*call->rope : nullptr;
    const at::Tensor& positions = call->documents.positions;
    const auto saved = ctx->get_saved_variables();
    const at::Tensor& packed = saved[0];
    const AttentionHeads x = rotated_heads(d, packed, rope, positions);

    const at::Tensor d_packed = at::empty(packed.sizes(), packed.options());
    const int64_t columns = attention_packed_columns(d);
    d_packed.narrow(2, columns, packed.size(2) - columns).zero_();
    const at::Tensor d_query_key = query_key_heads(d, d_packed);
    const at::Tensor d_rotated = rope ? at::empty(d_query_key.sizes(), packed.options()) : d_query_key;
    const AttentionHeads dx = heads_of(d, d_rotated, value_heads(d, d_packed));
    const at::Tensor dout = grads[0].contiguous().unflatten(2, {d.num_heads, d.head_dim});
    if (call->flash) {
      const at::Tensor out = saved[1].view(dout.sizes());
      flash_attention_bwd(dout, x, {out, {saved.begin() + 2, saved.end()}}, call->documents, dx);
    } else {
      reference::attention_bwd(dout, x, call->documents.ids, dx);
    }
    if (rope) rotate_half_into(d_query_key, d_rotated, *rope, positions, /*inverse=*/true);
    return {d_packed, {}};
  }
};

}  // namespace

at::Tensor attention(const AttentionDims& dims, const at::Tensor& packed_btw, const RopeTable* rope,
                     const Documents& documents, bool deterministic) {
  expect_shape("attention packed", packed_btw, {documents.batch, documents.seq_len, -1});
  check_attention_arguments(dims, packed_btw, rope);
  if (!why_no_attention_kernel(dims, packed_btw.device(), packed_btw.scalar_type()))
    return attention_kernel(dims, packed_btw, rope, documents, deterministic);
  auto call = c10::make_intrusive<AttentionCall>();
  call->dims = dims;
  if (rope) call->rope = *rope;
  call->documents = documents;
  call->flash = takes_flash(dims, packed_btw.device(), packed_btw.scalar_type(), deterministic);
  return Attention::apply(packed_btw, call);
}

std::string attention_path_description(const AttentionDims& dims, at::Device device, at::ScalarType dtype,
                                       bool deterministic) {
  const char* reason = why_no_attention_kernel(dims, device, dtype);
  if (!reason)
    return deterministic ? "cuDNN, the same bits in every run"
                         : "cuDNN, the same bits in every run but for rows of one document each";
  const bool flash = takes_flash(dims, device, dtype, deterministic);
  return concat(flash ? "LibTorch's flash attention (" : "plain masked products (", reason, ")");
}

}  // namespace transxssm::ops
