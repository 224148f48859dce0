// The autograd function around the CUDA scan: tensors to pointers, workspace, and gradients back.
#include "ops/ssd_kernel.h"

#include <limits>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/check.h"
#include "csrc_cuda/ssd/params.h"
#include "ops/check_tensor.h"
#include "ops/cuda_stream.h"
#include "ops/device_capability.h"
#include "ops/kernel_arguments.h"
#include "ops/parameter_handle.h"

namespace transxssm::ops {
namespace {

using reference::SsdCall;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<at::Tensor>;

constexpr int64_t kWidth = kernels::kSsdWidth;

// The copy engine moves rows in units of 16 bytes, 8 values.
void expect_packed_layout(const at::Tensor& packed_btw) {
  expect_aligned("ssd packed", packed_btw);
  expect(packed_btw.stride(1) % 8 == 0 && packed_btw.stride(0) % 8 == 0,
         concat("ssd packed: expected strides of batch and tokens that are multiples of 8, got ",
                packed_btw.stride(0), " and ", packed_btw.stride(1)));
}

// A grid has 2¹⁶ − 1 blocks along y and z: a block takes a sequence, or several spans of it.
void expect_size(const SsdDims& d, const at::Tensor& packed_btw) {
  constexpr int64_t kMostBlocks = 65535, kMost = std::numeric_limits<int32_t>::max();
  constexpr int64_t kMostTokens = kMostBlocks * kernels::kSsdTokensPerState;
  const int64_t batch = packed_btw.size(0), tokens = packed_btw.size(1);
  expect(batch <= kMostBlocks && d.num_heads <= kMostBlocks && tokens <= kMostTokens,
         concat("ssd packed: expected at most ", kMostBlocks, " sequences of ", kMostTokens, " tokens and ",
                kMostBlocks, " heads, got ", batch, " of ", tokens, " and ", d.num_heads));
  const int64_t token_heads = batch * tokens * d.num_heads;
  expect(token_heads <= kMost,
         concat("ssd packed: expected at most ", kMost, " tokens times heads, got ", token_heads));
}

void expect_arguments(const SsdCall& call, const at::Tensor& packed_btw,
                      const OptionalTensor& initial_state) {
  expect_packed_layout(packed_btw);
  expect_size(call.dims, packed_btw);
  const auto on_device = [&](const char* what, const at::Tensor& x, at::ScalarType dtype) {
    expect(x.device() == packed_btw.device() && x.scalar_type() == dtype && x.is_contiguous(),
           concat("ssd ", what, ": expected contiguous ", dtype, " on ", packed_btw.device(), ", got ",
                  x.scalar_type(), " on ", x.device(), " with strides ", x.strides()));
  };
  on_device("A_log", call.a_log_h->weight, at::kFloat);
  on_device("dt_bias", call.dt_bias_h->weight, at::kFloat);
  if (call.d_skip_h) on_device("D", call.d_skip_h->weight, at::kFloat);
  on_device("document positions", call.documents.positions, at::kLong);
  if (initial_state) {
    on_device("initial state", *initial_state, at::kFloat);
    expect_aligned("ssd initial state", *initial_state);
  }
  if (!call.rope.cos.defined()) return;
  for (const at::Tensor& table : {call.rope.cos, call.rope.sin}) {
    on_device("rope table", table, at::kFloat);
    expect_aligned("ssd rope table", table);
  }
}

kernels::SsdInputs inputs(const SsdCall& call, const at::Tensor& packed_btw) {
  const SsdDims& d = call.dims;
  kernels::SsdInputs in{};
  in.batch = static_cast<int>(call.documents.batch);
  in.tokens = static_cast<int>(call.documents.seq_len);
  in.heads = static_cast<int>(d.num_heads);
  in.groups = static_cast<int>(d.num_groups);
  in.packed = packed_btw.const_data_ptr();
  in.packed_row_stride = packed_btw.stride(1);
  in.packed_batch_stride = packed_btw.stride(0);
  in.packed_columns = packed_btw.size(2);
  in.a_log = f32_pointer(call.a_log_h->weight);
  in.dt_bias = f32_pointer(call.dt_bias_h->weight);
  in.d_skip = call.d_skip_h ? f32_pointer(call.d_skip_h->weight) : nullptr;
  in.rope_cos = f32_pointer(call.rope.cos);
  in.rope_sin = f32_pointer(call.rope.sin);
  in.rope_rows = call.rope.cos.defined() ? call.rope.cos.size(0) : 0;
  in.positions = call.documents.positions.const_data_ptr<int64_t>();
  in.segments = kernels::ssd_segments(in.batch, in.tokens, in.heads);
  return in;
}

// What each segment begins with, where a row has several; undefined otherwise. `dy`: null for the forward
// pass.
at::Tensor segment_states(const SsdCall& call, const at::Tensor& packed_btw, const void* dy,
                          const at::Tensor& outer) {
  kernels::SsdCarryParams p{};
  p.in = inputs(call, packed_btw);
  if (p.in.segments == 1) return {};
  const int64_t count = call.documents.batch * call.dims.num_heads * p.in.segments;
  const auto options = packed_btw.options().dtype(at::kFloat).requires_grad(false);
  at::Tensor states = at::empty({count, kWidth, kWidth}, options), decays = at::empty({count}, options);
  p.dy = dy;
  p.outer = f32_pointer(outer);
  p.states = states.mutable_data_ptr<float>();
  p.decays = decays.mutable_data_ptr<float>();
  kernels::ssd_carry(p, current_stream(packed_btw));
  return states;
}

struct Forward {
  at::Tensor y_btw;
  at::Tensor final_state_bhpn;
  at::Tensor saved_bhspn;  // states before every 128 tokens; undefined for inference
};

Forward forward_scan(const SsdCall& call, const at::Tensor& packed_btw,
                     const OptionalTensor& initial_state_bhpn, bool saves_states) {
  const c10::DeviceGuard guard(packed_btw.device());
  const int64_t batch = call.documents.batch, tokens = call.documents.seq_len, heads = call.dims.num_heads;
  const auto options = packed_btw.options().requires_grad(false);
  Forward out;
  out.y_btw = at::empty({batch, tokens, heads * kWidth}, options);
  out.final_state_bhpn = at::empty({batch, heads, kWidth, kWidth}, options.dtype(at::kFloat));
  kernels::SsdForwardParams p{};
  p.in = inputs(call, packed_btw);
  const at::Tensor initial_state = initial_state_bhpn.value_or(at::Tensor());
  const at::Tensor segments = segment_states(call, packed_btw, nullptr, initial_state);
  p.initial_state = f32_pointer(initial_state);
  p.segment_states = f32_pointer(segments);
  p.y = out.y_btw.mutable_data_ptr();
  p.final_state = out.final_state_bhpn.mutable_data_ptr<float>();
  if (saves_states) {
    out.saved_bhspn = at::empty({batch, heads, kernels::ssd_spans(tokens), kWidth, kWidth}, options);
    p.saved_states = out.saved_bhspn.mutable_data_ptr();
  }
  kernels::ssd_forward(p, current_stream(packed_btw));
  return out;
}

// One f32 buffer for everything that the backward kernels hand to each other.
at::Tensor make_workspace(const SsdCall& call, const at::Tensor& like, kernels::SsdBackwardParams& p) {
  const int64_t rows = call.documents.batch * call.dims.num_heads, tokens = call.documents.seq_len;
  const int64_t anchors = rows * kernels::ssd_spans(tokens) * kernels::kSsdAnchorParts,
                sums = 3 * rows * kernels::kSsdSumParts;
  at::Tensor workspace = at::empty({5 * rows * tokens + anchors + sums}, like.options().dtype(at::kFloat));
  float* next = workspace.mutable_data_ptr<float>();
  for (float** by_token : {&p.pairs, &p.inter, &p.added, &p.direct, &p.skip}) {
    *by_token = next;
    next += rows * tokens;
  }
  p.anchors = next;
  p.sums = next + anchors;
  return workspace;
}

// Incoming gradients come as autograd has them.
at::Tensor contiguous_and_aligned(const at::Tensor& x) {
  const at::Tensor contiguous = x.contiguous();
  return is_aligned(contiguous) ? contiguous : contiguous.clone();
}

// Adds up C's and B's gradients over the heads of a group. by_head: [2, B, T, H·128].
void sum_over_groups(const SsdCall& call, const at::Tensor& by_head, const at::Tensor& d_packed_btw) {
  const SsdDims& d = call.dims;
  const at::Tensor groups = by_head.unflatten(-1, {d.num_groups, d.num_heads / d.num_groups, kWidth});
  at::Tensor columns = d_packed_btw.narrow(-1, 0, 2 * d.num_groups * kWidth)
                           .unflatten(-1, {2, d.num_groups, kWidth})
                           .permute({2, 0, 1, 3, 4});
  columns.copy_(groups.sum(4, /*keepdim=*/false, at::kFloat));
}

struct Backward {
  at::Tensor d_packed_btw;
  at::Tensor d_initial_state_bhpn;  // undefined without one
};

Backward backward_scan(const SsdCall& call, const at::Tensor& packed_btw, const at::Tensor& saved_bhspn,
                       const at::Tensor& dy_btw, const at::Tensor& dfinal_bhpn) {
  const c10::DeviceGuard guard(packed_btw.device());
  const int64_t batch = call.documents.batch, tokens = call.documents.seq_len, heads = call.dims.num_heads;
  const int64_t columns = packed_btw.size(2), aligned_columns = (columns + 7) / 8 * 8;
  const int64_t used = ssd_packed_columns(call.dims);
  Backward out;
  at::Tensor d_packed = at::empty({batch, tokens, aligned_columns}, packed_btw.options());
  if (aligned_columns > used) d_packed.narrow(2, used, aligned_columns - used).zero_();
  if (call.has_initial_state)
    out.d_initial_state_bhpn =
        at::empty({batch, heads, kWidth, kWidth}, packed_btw.options().dtype(at::kFloat));
  at::Tensor by_head;
  if (call.dims.num_groups != heads)
    by_head = at::empty({2, batch, tokens, heads * kWidth}, packed_btw.options());

  kernels::SsdBackwardParams p{};
  p.in = inputs(call, packed_btw);
  p.dy = dy_btw.const_data_ptr();
  p.saved_states = saved_bhspn.const_data_ptr();
  const at::Tensor segments = segment_states(call, packed_btw, p.dy, dfinal_bhpn);
  p.final_gradient = f32_pointer(dfinal_bhpn);
  p.segment_gradients = f32_pointer(segments);
  p.has_initial_state = call.has_initial_state;
  p.d_packed = d_packed.mutable_data_ptr();
  p.d_packed_columns = aligned_columns;
  p.d_heads = by_head.defined() ? by_head.mutable_data_ptr() : nullptr;
  p.d_initial_state = call.has_initial_state ? out.d_initial_state_bhpn.mutable_data_ptr<float>() : nullptr;
  p.d_a_log = gradient_pointer(call.a_log_h);
  p.d_dt_bias = gradient_pointer(call.dt_bias_h);
  p.d_d_skip = gradient_pointer(call.d_skip_h);
  const at::Tensor workspace = make_workspace(call, packed_btw, p);
  kernels::ssd_backward(p, current_stream(packed_btw));
  if (by_head.defined()) sum_over_groups(call, by_head, d_packed);
  out.d_packed_btw = d_packed.narrow(2, 0, columns);
  return out;
}

struct SsdKernel : torch::autograd::Function<SsdKernel> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& packed_btw,
                               const OptionalTensor& initial_state_bhpn, const OptionalTensor& /*a_log*/,
                               const OptionalTensor& /*dt_bias*/, const OptionalTensor& /*d_skip*/,
                               const c10::intrusive_ptr<SsdCall>& call) {
    const Forward out = forward_scan(*call, packed_btw, initial_state_bhpn, /*saves_states=*/true);
    ctx->save_for_backward({packed_btw, out.saved_bhspn});
    ctx->saved_data["call"] = c10::IValue::make_capsule(call);
    ctx->set_materialize_grads(false);
    return {out.y_btw, out.final_state_bhpn};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto call = c10::static_intrusive_pointer_cast<SsdCall>(ctx->saved_data["call"].toCapsule());
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor& packed_btw = saved[0];
    const at::Tensor dy =
        grads[0].defined()
            ? contiguous_and_aligned(grads[0].to(at::kBFloat16))
            : at::zeros({packed_btw.size(0), packed_btw.size(1), call->dims.num_heads * kWidth},
                        packed_btw.options());
    const at::Tensor dfinal = grads[1].defined() ? contiguous_and_aligned(grads[1]) : at::Tensor();
    const Backward out = backward_scan(*call, packed_btw, saved[1], dy, dfinal);
    return {out.d_packed_btw, out.d_initial_state_bhpn, {}, {}, {}, {}};
  }
};

}  // namespace

const char* why_no_ssd_kernel(const SsdDims& dims, at::Device device, at::ScalarType dtype) {
  const bool wanted = dims.path == SsdPath::automatic;
  if (wanted && device.is_cpu()) return "the CPU has no other";
  if (wanted && !kernels::ssd_has_kernels()) return "this build has no CUDA kernels";
  return why_no_ssd_kernel(dims, dtype, wanted ? device_capability(device) : 0);
}

const char* why_no_ssd_kernel(const SsdDims& dims, at::ScalarType dtype, int capability) {
  if (dims.path == SsdPath::reference) return "kernels.ssd is reference";
  if (dtype != at::kBFloat16) return "the kernels take bf16";
  if (dims.head_dim != kWidth || dims.state_dim != kWidth)
    return "the kernels take heads and states 128 wide";
  if (capability != 90) return "the kernels need a GPU of compute capability 9.0";
  return nullptr;
}

SsdResult ssd_kernel(c10::intrusive_ptr<SsdCall> call, const at::Tensor& packed_btw,
                     const OptionalTensor& initial_state_bhpn) {
  expect_arguments(*call, packed_btw, initial_state_bhpn);
  const auto a_log = graph_leaf(call->a_log_h), dt_bias = graph_leaf(call->dt_bias_h),
             d_skip = graph_leaf(call->d_skip_h);
  const bool recorded =
      c10::GradMode::is_enabled() && (a_log || dt_bias || d_skip || packed_btw.requires_grad() ||
                                      (initial_state_bhpn && initial_state_bhpn->requires_grad()));
  if (!recorded) {
    const Forward out = forward_scan(*call, packed_btw, initial_state_bhpn, /*saves_states=*/false);
    return {out.y_btw, out.final_state_bhpn};
  }
  const variable_list out = SsdKernel::apply(packed_btw, initial_state_bhpn, a_log, dt_bias, d_skip, call);
  return {out[0], out[1]};
}

}  // namespace transxssm::ops
