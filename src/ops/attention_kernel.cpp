// The autograd function around cuDNN's attention: tensors to pointers, workspace, and gradients back.
#include "ops/attention_kernel.h"

#include <optional>

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/check.h"
#include "csrc_cuda/attention/document_classes.h"
#include "csrc_cuda/rope/params.h"
#include "ops/cuda_stream.h"
#include "ops/device_capability.h"

namespace transxssm::ops {
namespace {

using kernels::AttentionPass;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct KernelCall : torch::CustomClassHolder {
  AttentionDims dims;
  std::optional<RopeTable> rope;
  Documents documents;
  bool deterministic = true;
};
using KernelCallPtr = c10::intrusive_ptr<KernelCall>;

kernels::AttentionShape shape_of(const AttentionDims& dims, const AttentionBatch& batch,
                                 int64_t packed_columns) {
  return {.batch = batch.batch,
          .tokens = batch.seq_len,
          .documents = batch.documents,
          .heads = static_cast<int>(dims.num_heads),
          .kv_heads = static_cast<int>(dims.num_kv_heads),
          .width = static_cast<int>(dims.head_dim),
          .packed_columns = packed_columns,
          .deterministic = batch.deterministic};
}

kernels::AttentionShape shape_of(const KernelCall& call, const at::Tensor& packed_btw) {
  const Documents& documents = call.documents;
  return shape_of(call.dims,
                  {documents.batch, documents.seq_len, documents.offsets.numel() - 1, call.deterministic},
                  packed_btw.size(2));
}

void* begin_of(const at::Tensor& x) { return x.mutable_data_ptr(); }

// Heads of width P side by side in the rows of `from` and `to`, [B, T, heads · P] with any row stride.
void rotate(const KernelCall& call, const at::Tensor& from, const at::Tensor& to, bool inverse) {
  kernels::rotate_heads({.from = begin_of(from),
                         .from_row = from.stride(1),
                         .to = begin_of(to),
                         .to_row = to.stride(1),
                         .tokens = from.size(0) * from.size(1),
                         .heads = static_cast<int>(from.size(2) / call.dims.head_dim),
                         .width = static_cast<int>(call.dims.head_dim),
                         .rope_cos = call.rope->cos.const_data_ptr<float>(),
                         .rope_sin = call.rope->sin.const_data_ptr<float>(),
                         .positions = call.documents.positions.const_data_ptr<int64_t>(),
                         .inverse = inverse},
                        current_stream(from));
}

// What cuDNN needs beside the tensors: where documents lie, and room to work in.
struct Scratch {
  at::Tensor tables, workspace;

  Scratch(const KernelCall& call, const kernels::AttentionShape& shape, const at::Tensor& packed_btw,
          AttentionPass pass) {
    const auto options = packed_btw.options();
    tables = at::empty({kernels::attention_table_words(shape, pass)}, options.dtype(at::kInt));
    workspace = at::empty({kernels::attention_workspace_bytes(shape, pass)}, options.dtype(at::kByte));
    kernels::make_attention_tables({.shape = shape,
                                    .pass = pass,
                                    .offsets = call.documents.offsets.const_data_ptr<int32_t>(),
                                    .tables = tables.mutable_data_ptr<int32_t>()},
                                   current_stream(packed_btw));
  }
};

struct Forward {
  at::Tensor out_btw;
  at::Tensor log_sum_exp;  // as the backward pass wants it; undefined where nothing is saved
};

Forward attend(const KernelCall& call, const at::Tensor& packed_btw, bool saves) {
  const c10::DeviceGuard guard(packed_btw.device());
  const int64_t batch = packed_btw.size(0), tokens = packed_btw.size(1);
  const AttentionDims& d = call.dims;
  if (call.rope) {
    const at::Tensor query_key = packed_btw.narrow(2, 0, (d.num_heads + d.num_kv_heads) * d.head_dim);
    rotate(call, query_key, query_key, /*inverse=*/false);
  }
  Forward result{at::empty({batch, tokens, d.num_heads * d.head_dim}, packed_btw.options()), {}};
  if (saves)
    result.log_sum_exp = at::empty({batch * tokens * d.num_heads}, packed_btw.options().dtype(at::kFloat));
  kernels::AttentionShape shape = shape_of(call, packed_btw);
  if (!saves) shape.deterministic = false;  // no backward pass that rows would have to suit
  const Scratch scratch(call, shape, packed_btw, saves ? AttentionPass::forward : AttentionPass::inference);
  kernels::attention_forward({.shape = shape,
                              .packed = packed_btw.const_data_ptr(),
                              .tables = scratch.tables.const_data_ptr<int32_t>(),
                              .out = begin_of(result.out_btw),
                              .log_sum_exp = saves ? result.log_sum_exp.mutable_data_ptr<float>() : nullptr,
                              .workspace = begin_of(scratch.workspace)},
                             current_stream(packed_btw));
  return result;
}

at::Tensor attend_backward(const KernelCall& call, const at::Tensor& packed_btw, const at::Tensor& out_btw,
                           const at::Tensor& log_sum_exp, const at::Tensor& dout_btw) {
  const c10::DeviceGuard guard(packed_btw.device());
  const AttentionDims& d = call.dims;
  const kernels::AttentionShape shape = shape_of(call, packed_btw);
  const int64_t query_width = d.num_heads * d.head_dim, key_width = d.num_kv_heads * d.head_dim;
  const at::Tensor d_packed = at::empty_like(packed_btw);
  const at::Tensor in_key = d_packed.narrow(2, query_width, key_width);
  const at::Tensor in_value = d_packed.narrow(2, query_width + key_width, key_width);
  const int64_t used = attention_packed_columns(d);
  if (d_packed.size(2) > used) d_packed.narrow(2, used, d_packed.size(2) - used).zero_();

  at::Tensor d_key = in_key, d_value = in_value;
  const bool apart = kernels::attention_key_gradient_row(shape) != shape.packed_columns;
  if (apart) {
    d_key = at::empty(in_key.sizes(), packed_btw.options());
    d_value = at::empty_like(d_key);
  }
  const Scratch scratch(call, shape, packed_btw, AttentionPass::backward);
  kernels::attention_backward({.shape = shape,
                               .packed = packed_btw.const_data_ptr(),
                               .tables = scratch.tables.const_data_ptr<int32_t>(),
                               .out = out_btw.const_data_ptr(),
                               .log_sum_exp = log_sum_exp.const_data_ptr<float>(),
                               .d_out = dout_btw.const_data_ptr(),
                               .d_query = begin_of(d_packed),
                               .d_key = begin_of(d_key),
                               .d_value = begin_of(d_value),
                               .workspace = begin_of(scratch.workspace)},
                              current_stream(packed_btw));
  if (call.rope) {
    const at::Tensor in_place = d_packed.narrow(2, 0, query_width + (apart ? 0 : key_width));
    rotate(call, in_place, in_place, /*inverse=*/true);
  }
  if (apart) {
    call.rope ? rotate(call, d_key, in_key, /*inverse=*/true) : void(in_key.copy_(d_key));
    in_value.copy_(d_value);
  }
  return d_packed;
}

struct AttentionKernel : torch::autograd::Function<AttentionKernel> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& packed_btw, const KernelCallPtr& call) {
    const Forward result = attend(*call, packed_btw, /*saves=*/true);
    ctx->save_for_backward({packed_btw, result.out_btw, result.log_sum_exp});
    ctx->saved_data["call"] = c10::IValue::make_capsule(call);
    return result.out_btw;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto call = c10::static_intrusive_pointer_cast<KernelCall>(ctx->saved_data["call"].toCapsule());
    const variable_list saved = ctx->get_saved_variables();
    return {attend_backward(*call, saved[0], saved[1], saved[2], grads[0].contiguous()), {}};
  }
};

// Rows without gaps that begin at multiples of 16 bytes, in memory that nobody else reads again.
at::Tensor writable(const at::Tensor& packed_btw) {
  const bool aligned = packed_btw.is_contiguous() && packed_btw.size(2) % 8 == 0 &&
                       reinterpret_cast<uintptr_t>(packed_btw.const_data_ptr()) % 16 == 0;
  const bool leaf = packed_btw.is_leaf() && packed_btw.requires_grad();
  if (aligned && !leaf) return packed_btw;
  const int64_t missing = (8 - packed_btw.size(2) % 8) % 8;
  if (missing == 0) return packed_btw.clone(at::MemoryFormat::Contiguous);
  return at::constant_pad_nd(packed_btw, {0, missing});
}

void expect_contiguous(const char* what, const at::Tensor& x, at::ScalarType dtype, at::Device device) {
  expect(x.device() == device && x.scalar_type() == dtype && x.is_contiguous(),
         concat("attention ", what, ": expected contiguous ", dtype, " on ", device, ", got ",
                x.scalar_type(), " on ", x.device(), " with strides ", x.strides()));
}

}  // namespace

const char* why_no_attention_kernel(const AttentionDims& dims, at::Device device, at::ScalarType dtype) {
  const bool wanted = dims.path == AttentionPath::automatic;
  if (wanted && device.is_cpu()) return "the CPU has no other";
  if (wanted && !kernels::attention_has_kernels()) return "this build has no CUDA kernels";
  return why_no_attention_kernel(dims, dtype, wanted ? device_capability(device) : 0);
}

const char* why_no_attention_kernel(const AttentionDims& dims, at::ScalarType dtype, int capability) {
  if (dims.path == AttentionPath::reference) return "kernels.attention is reference";
  if (dtype != at::kBFloat16) return "cuDNN's takes bf16";
  if (dims.head_dim != 64 && dims.head_dim != 128) return "cuDNN's is used for heads 64 and 128 wide";
  if (capability < 90) return "cuDNN's needs a GPU of compute capability 9.0";
  return nullptr;
}

at::Tensor attention_kernel(const AttentionDims& dims, const at::Tensor& packed_btw, const RopeTable* rope,
                            const Documents& documents, bool deterministic) {
  const at::Device device = packed_btw.device();
  expect(packed_btw.numel() < int64_t{1} << 31,
         concat("attention packed: cuDNN takes fewer than 2^31 values, got ", packed_btw.sizes(),
                "; lower train.micro_batch_size"));
  expect_contiguous("document offsets", documents.offsets, at::kInt, device);
  expect_contiguous("document positions", documents.positions, at::kLong, device);
  if (rope) {
    expect_contiguous("rope table", rope->cos, at::kFloat, device);
    expect_contiguous("rope table", rope->sin, at::kFloat, device);
  }
  auto call = c10::make_intrusive<KernelCall>();
  call->dims = dims;
  if (rope) call->rope = *rope;
  call->documents = documents;
  call->deterministic = deterministic;

  const at::Tensor own_btw = writable(packed_btw);
  // Whoever kept it for a backward pass of their own is told by autograd that it has changed.
  if (rope && !own_btw.is_inference()) torch::autograd::impl::bump_version(own_btw);
  if (!(c10::GradMode::is_enabled() && own_btw.requires_grad()))
    return attend(*call, own_btw, /*saves=*/false).out_btw;
  return AttentionKernel::apply(own_btw, call);
}

int64_t attention_kernel_workspace(const AttentionDims& dims, const AttentionBatch& batch) {
  return kernels::attention_backward_bytes(shape_of(dims, batch, attention_packed_columns(dims)));
}

void prepare_attention(const AttentionDims& dims, at::Device device, at::ScalarType dtype,
                       const AttentionBatch& batch) {
  if (why_no_attention_kernel(dims, device, dtype)) return;
  const c10::DeviceGuard guard(device);
  kernels::prepare_attention(shape_of(dims, batch, attention_packed_columns(dims)));
}

}  // namespace transxssm::ops
