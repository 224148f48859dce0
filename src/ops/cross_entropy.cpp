#include "ops/cross_entropy.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/DeviceGuard.h>

#include "csrc_cuda/cross_entropy/params.h"
#include "ops/accumulate_type.h"
#include "ops/check_tensor.h"
#include "ops/cuda_stream.h"
#include "ops/linear.h"
#include "ops/reference/cross_entropy.h"

namespace transxssm::ops {
namespace {

int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

bool has_kernel(at::Device device, at::ScalarType dtype) {
  return device.is_cuda() && dtype == at::kBFloat16;
}

struct RowLosses {
  at::Tensor losses, objectives;  // [rows]
};

RowLosses rows_of(const RowLosses& all, int64_t begin, int64_t count) {
  return {all.losses.narrow(0, begin, count), all.objectives.narrow(0, begin, count)};
}

const float* data_or_null(const at::Tensor& scale) {
  return scale.defined() ? scale.const_data_ptr<float>() : nullptr;
}

// Memory for the logits of `rows` rows, reused by all chunks.
at::Tensor logits_buffer(const at::Tensor& hidden, int64_t rows, int64_t vocabulary) {
  const bool padded = has_kernel(hidden.device(), hidden.scalar_type());
  return at::empty({rows, padded ? round_up(vocabulary, kernels::kLogitsAlignment) : vocabulary},
                   hidden.options());
}

// Writes the losses of a chunk; with `gradient` returns that of its logits.
at::Tensor chunk_losses(const at::Tensor& logits, const at::Tensor& labels, const at::Tensor& scale,
                        double z_loss, bool gradient, const RowLosses& out) {
  if (!has_kernel(logits.device(), logits.scalar_type())) {
    const auto chunk = reference::cross_entropy(logits, labels, scale, z_loss, gradient);
    out.losses.copy_(chunk.losses);
    out.objectives.copy_(chunk.objectives);
    return chunk.dlogits;
  }
  const kernels::CrossEntropyParams params{
      .logits_bf16 = logits.mutable_data_ptr(),
      .row_stride = logits.stride(0),
      .labels = labels.const_data_ptr<int64_t>(),
      .losses = out.losses.mutable_data_ptr<float>(),
      .objectives = out.objectives.mutable_data_ptr<float>(),
      .scale = data_or_null(scale),
      .rows = logits.size(0),
      .vocabulary = logits.size(1),
      .z_loss = static_cast<float>(z_loss),
      .gradient = gradient,
  };
  kernels::cross_entropy(params, current_stream(logits));
  return logits;
}

CrossEntropyResult sum_rows(const RowLosses& rows, const at::Tensor& scale) {
  if (!rows.losses.is_cuda() || rows.losses.scalar_type() != at::kFloat) {
    const auto sum = [&](const at::Tensor& x) { return scale.defined() ? x.sum() * scale : x.sum(); };
    return {sum(rows.objectives), sum(rows.losses)};
  }
  const CrossEntropyResult out{at::empty({}, rows.losses.options()), at::empty({}, rows.losses.options())};
  const kernels::CrossEntropySumParams params{
      .losses = rows.losses.const_data_ptr<float>(),
      .objectives = rows.objectives.const_data_ptr<float>(),
      .rows = rows.losses.numel(),
      .scale = data_or_null(scale),
      .loss = out.loss.mutable_data_ptr<float>(),
      .objective = out.objective.mutable_data_ptr<float>(),
  };
  kernels::cross_entropy_sum(params, current_stream(rows.losses));
  return out;
}

void check_arguments(const char* op, const at::Tensor& hidden, const at::Tensor& weight,
                     const at::Tensor& labels) {
  expect_shape(concat(op, " hidden").c_str(), hidden, {labels.numel(), weight.size(1)});
  expect_dtype(concat(op, " hidden").c_str(), hidden, weight.scalar_type());
  expect_dtype(concat(op, " labels").c_str(), labels, at::kLong);
}

struct Chunk {
  int64_t begin, count;
  at::Tensor hidden, logits, labels;
  RowLosses out;
};

// Visits chunks of rows with their logits, which share one memory. Returns what the visits write to `out`.
template <class Visit>
RowLosses by_chunks(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels,
                    Visit&& visit) {
  const int64_t rows = hidden.size(0), vocabulary = weight.size(0);
  const auto sums = hidden.options().dtype(accumulate_type(hidden));
  const RowLosses losses{at::empty({rows}, sums), at::empty({rows}, sums)};
  const int64_t step = cross_entropy_chunk_rows(rows, vocabulary, hidden.device(), hidden.scalar_type());
  const at::Tensor buffer = logits_buffer(hidden, std::min(step, rows), vocabulary);
  for (int64_t begin = 0; begin < rows; begin += step) {
    const int64_t count = std::min(step, rows - begin);
    const Chunk chunk{begin,
                      count,
                      hidden.narrow(0, begin, count),
                      buffer.narrow(0, 0, count).narrow(1, 0, vocabulary),
                      labels.narrow(0, begin, count),
                      rows_of(losses, begin, count)};
    multiply_into(chunk.logits, chunk.hidden, weight);
    visit(chunk);
  }
  return losses;
}

// With a parameter the gradients too.
CrossEntropyGradient run(const at::Tensor& strided_hidden, const at::Tensor& weight, const at::Tensor& labels,
                         const at::Tensor& scale, double z_loss, const ParameterPtr& w) {
  check_arguments("cross_entropy", strided_hidden, weight, labels);
  const at::NoGradGuard no_grad;
  const c10::DeviceGuard on_device(strided_hidden.device());
  const at::Tensor hidden = strided_hidden.contiguous();
  const bool gradient = static_cast<bool>(w);
  CrossEntropyGradient out;
  if (gradient) out.dhidden = at::empty_like(hidden);
  const RowLosses losses = by_chunks(hidden, weight, labels.contiguous(), [&](const Chunk& c) {
    const at::Tensor dlogits = chunk_losses(c.logits, c.labels, scale, z_loss, gradient, c.out);
    if (!gradient) return;
    input_gradient_into(out.dhidden.narrow(0, c.begin, c.count), dlogits, weight);
    if (w->grad.defined()) add_weight_gradient(w, dlogits, c.hidden);
  });
  out.result = sum_rows(losses, scale);
  return out;
}

}  // namespace

CrossEntropyResult cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels,
                                 double z_loss) {
  return run(hidden, weight, labels, {}, z_loss, {}).result;
}

CrossEntropyGradient cross_entropy_with_gradient(const at::Tensor& hidden, const ParameterPtr& w,
                                                 const at::Tensor& labels, const at::Tensor& scale,
                                                 double z_loss) {
  expect_shape("cross_entropy scale", scale, {});
  expect_dtype("cross_entropy scale", scale, accumulate_type(hidden));
  expect_device("cross_entropy scale", scale, hidden.device());
  return run(hidden, w->weight, labels, scale, z_loss, w);
}

TokenScores token_scores(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels) {
  check_arguments("token_scores", hidden, weight, labels);
  const at::NoGradGuard no_grad;
  const c10::DeviceGuard on_device(hidden.device());
  const at::Tensor likely = at::empty({hidden.size(0)}, hidden.options().dtype(at::kLong));
  const RowLosses losses = by_chunks(hidden.contiguous(), weight, labels.contiguous(), [&](const Chunk& c) {
    likely.narrow(0, c.begin, c.count).copy_(c.logits.argmax(1));  // before the losses: they reuse the memory
    chunk_losses(c.logits, c.labels, {}, 0.0, /*gradient=*/false, c.out);
  });
  return {losses.losses, likely};
}

int64_t cross_entropy_chunk_rows(int64_t rows, int64_t vocabulary, at::Device device, at::ScalarType dtype) {
  // On a CPU a chunk's f32 logits stay in the last-level cache. A GPU's products reach full speed at about
  // 8192 rows of 32768 logits. Its reference path holds four copies in f32.
  constexpr int64_t kCpuBytes = int64_t{4} << 20;
  constexpr int64_t kReferenceBytes = int64_t{128} << 20;
  constexpr int64_t kKernelBytes = int64_t{512} << 20;
  if (!has_kernel(device, dtype)) {
    const int64_t row_bytes = vocabulary * static_cast<int64_t>(sizeof(float));
    return std::max<int64_t>(1, (device.is_cuda() ? kReferenceBytes : kCpuBytes) / row_bytes);
  }
  // Equal chunks of whole tiles of the products, of which the last one may be cut.
  constexpr int64_t kTileRows = 128;
  const int64_t row_bytes = 2 * round_up(vocabulary, kernels::kLogitsAlignment);
  const int64_t most = std::max(kTileRows, kKernelBytes / row_bytes / kTileRows * kTileRows);
  const int64_t chunks = std::max<int64_t>(1, (rows + most - 1) / most);
  return std::max(kTileRows, round_up((rows + chunks - 1) / chunks, kTileRows));
}

}  // namespace transxssm::ops
