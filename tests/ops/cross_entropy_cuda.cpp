// Cross-entropy on CUDA: the kernel against fp64 on the same bf16 logits, and the operator around it.
#include <cmath>

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/full.h>

#include "cross_entropy_cases.h"
#include "csrc_cuda/cross_entropy/params.h"
#include "ops/cuda_stream.h"
#include "ops/reference/cross_entropy.h"
#include "support/cuda_graph.h"

using namespace transxssm;

namespace {

constexpr double kZLoss = 1e-3;

// Row n of hidden is the unit vector n % D, so logits are columns of W, exactly, and with N ≤ D the gradient
// of W shows that of the logits, exactly too.
struct Columns {
  int64_t rows, vocabulary, width;
  at::Tensor hidden, labels;
  ParameterPtr w;

  Columns(int64_t n, int64_t v, double scale_of_logits = 2, int64_t most_width = 64)
      : rows(n), vocabulary(v), width(std::min<int64_t>((n + 7) / 8 * 8, most_width)) {
    const auto bf16 = at::TensorOptions(at::kCUDA).dtype(at::kBFloat16);
    const at::Tensor unit = at::eye(width, bf16);
    hidden =
        at::cat(std::vector<at::Tensor>(static_cast<size_t>((n + width - 1) / width), unit)).narrow(0, 0, n);
    labels = some_tokens({n}, v, 9);
    if (n > 2) labels[1].fill_(-1);
    labels[0].fill_(v - 1);
    labels = labels.to(at::kCUDA);
    w = parameter_in(f64_parameter("head", {v, width}, 8, scale_of_logits), at::kBFloat16, at::kCUDA);
  }

  at::Tensor logits() const {
    const at::Tensor columns = w->weight.detach().t();
    return at::cat(std::vector<at::Tensor>(static_cast<size_t>((rows + width - 1) / width), columns))
        .narrow(0, 0, rows);
  }
  ops::CrossEntropyGradient run(double scale) const {
    w->grad.zero_();
    return ops::cross_entropy_with_gradient(hidden, w, labels, scalar(scale), kZLoss);
  }
  static at::Tensor scalar(double value) {
    return at::full({}, value, at::TensorOptions(at::kCUDA).dtype(at::kFloat));
  }
};

// Of a sum over rows: relative 1e-5, and what it costs each row to round its sum of exponentials, which is at
// least 1, to f32.
void require_sum(const at::Tensor& actual, const at::Tensor& rows, double scale) {
  const double exact = rows.sum().item<double>() * scale;
  const double rounding = 0x1p-23 * static_cast<double>(rows.numel()) * std::abs(scale);
  REQUIRE(std::abs(actual.item<double>() - exact) <= 1e-5 * std::abs(exact) + rounding);
}

// Largest over rows of ‖actual − exact‖ / ‖exact‖.
double row_rms(const at::Tensor& actual, const at::Tensor& exact) {
  const at::Tensor difference = (actual.to(at::kDouble) - exact).norm(2, 1);
  return max_abs(difference / exact.norm(2, 1).clamp_min(1e-300));
}

void require_exact_sums(const Columns& c, double scale) {
  const auto exact = ops::reference::cross_entropy(c.logits().to(at::kDouble), c.labels, {}, kZLoss, true);
  const auto actual = c.run(scale);
  INFO(c.rows << " rows of " << c.vocabulary);
  require_sum(actual.result.loss, exact.losses, scale);
  require_sum(actual.result.objective, exact.objectives, scale);
  const auto evaluated = ops::cross_entropy(c.hidden, c.w->weight, c.labels, kZLoss);
  require_sum(evaluated.loss, exact.losses, 1);
  if (c.rows <= c.width) REQUIRE(row_rms(c.w->grad.t().narrow(0, 0, c.rows), exact.dlogits * scale) <= 4e-3);
  const at::Tensor weight = c.w->weight.detach().to(at::kDouble);
  // Two roundings to bf16 and sums of products of bf16 values; a row's error relative to its gradient's size.
  REQUIRE(row_rms(actual.dhidden, (exact.dlogits * scale).matmul(weight)) <= 8e-3);
}

}  // namespace

TEST_CASE("cross_entropy on CUDA: losses and gradients in bf16 against fp64 on the same logits",
          "[ops][cuda]") {
  // A thread keeps 64 logits, a block 32768, a cluster 262144.
  const auto [rows, vocabulary] = GENERATE(table<int64_t, int64_t>({{1, 2},
                                                                    {3, 7},
                                                                    {5, 8},
                                                                    {5, 9},
                                                                    {64, 1009},
                                                                    {9, 4104},
                                                                    {9, 32767},
                                                                    {9, 32768},
                                                                    {9, 32769},
                                                                    {7, 50304},
                                                                    {5, 65543},
                                                                    {5, 128256},
                                                                    {3, 262144},
                                                                    {3, 300007}}));
  const Columns c(rows, vocabulary);
  require_exact_sums(c, 1.0);
  require_exact_sums(c, -0x1p-15 / 3);
}

TEST_CASE("cross_entropy on CUDA: rows on both sides of a chunk border count alike", "[ops][cuda]") {
  REQUIRE(ops::cross_entropy_chunk_rows(4000, 65537, at::kCUDA, at::kBFloat16) == 2048);
  require_exact_sums(Columns(4000, 65537, 2, 8), 1.0);
}

TEST_CASE("cross_entropy on CUDA: logits of several hundred neither overflow nor lose the label",
          "[ops][cuda]") {
  for (const int64_t vocabulary : {1009, 65537}) {
    const Columns c(8, vocabulary, 300);
    const auto exact = ops::reference::cross_entropy(c.logits().to(at::kDouble), c.labels, {}, 0, true);
    c.w->grad.zero_();
    const auto out = ops::cross_entropy_with_gradient(c.hidden, c.w, c.labels, Columns::scalar(1));
    require_sum(out.result.loss, exact.losses, 1);
    REQUIRE(row_rms(c.w->grad.t().narrow(0, 0, c.rows), exact.dlogits) <= 4e-3);
  }
}

TEST_CASE("cross_entropy on CUDA: two runs give the same bits", "[ops][cuda]") {
  const Columns c(301, 50304, 2, 8);
  const auto first = c.run(0.1);
  const at::Tensor grad = c.w->grad.clone();
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto again = c.run(0.1);
    REQUIRE(same_bits(again.result.loss, first.result.loss));
    REQUIRE(same_bits(again.result.objective, first.result.objective));
    REQUIRE(same_bits(again.dhidden, first.dhidden));
    REQUIRE(same_bits(c.w->grad, grad));
  }
}

TEST_CASE("cross_entropy on CUDA: nothing outside the rows is written, and uncounted rows are not read",
          "[ops][cuda]") {
  const int64_t vocabulary = GENERATE(13, 32768, 32775, 65536, 70001);
  const int64_t stride = (vocabulary + 7) / 8 * 8, rows = 5;
  const auto bf16 = at::TensorOptions(at::kCUDA).dtype(at::kBFloat16);
  const at::Tensor memory = at::full({rows + 2, stride}, 7, bf16);
  const at::Tensor losses = at::full({2, rows + 2}, 7, bf16.dtype(at::kFloat));
  memory[3].fill_(NAN);
  const at::Tensor labels = at::full({rows}, vocabulary - 1, bf16.dtype(at::kLong));
  labels[2].fill_(-1);
  labels[4].fill_(vocabulary);  // no such token: shown, not read
  const kernels::CrossEntropyParams params{
      .logits_bf16 = memory[1].mutable_data_ptr(),
      .row_stride = stride,
      .labels = labels.const_data_ptr<int64_t>(),
      .losses = losses[0].mutable_data_ptr<float>() + 1,
      .objectives = losses[1].mutable_data_ptr<float>() + 1,
      .scale = nullptr,
      .rows = rows,
      .vocabulary = vocabulary,
      .z_loss = 0,
      .gradient = true,
  };
  kernels::cross_entropy(params, ops::current_stream(memory));
  for (const int64_t row : {int64_t{0}, rows + 1})
    REQUIRE(max_abs_diff(memory[row], at::full({stride}, 7)) == 0);
  for (const int64_t i : {int64_t{0}, rows + 1})
    REQUIRE(max_abs_diff(losses.select(1, i), at::full({2}, 7)) == 0);
  REQUIRE(max_abs(memory[3].narrow(0, 0, vocabulary)) == 0);
  REQUIRE(max_abs(losses.select(1, 3)) == 0);
  REQUIRE(std::isnan(losses[0][5].item<float>()));
  const double uniform = std::log(static_cast<double>(vocabulary));
  REQUIRE(std::abs(losses[0][1].item<double>() - uniform) <= 1e-5 * uniform);
}

TEST_CASE("cross_entropy on CUDA: labels that are all not counted give 0 and zero gradients", "[ops][cuda]") {
  for (const auto dtype : {at::kFloat, at::kBFloat16})
    for (const at::Tensor& tensor : run_op(cross_entropy_case(9, 5, 11, 0.1, 1), dtype, at::kCUDA))
      REQUIRE(max_abs(tensor) == 0);
}

TEST_CASE("cross_entropy on CUDA: fp32 and bf16 lose no more than the plain formula, over chunk borders too",
          "[ops][cuda]") {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    require_precision(cross_entropy_case(67, 33, 257, 0.0), dtype, at::kCUDA);
    require_precision(cross_entropy_case(31, 64, 1009, 1e-3), dtype, at::kCUDA);
  }
  // 128 MiB of f32 logits are 511 rows of 65 537: chunks of 511 and 2.
  require_precision(cross_entropy_case(513, 8, 65537, 1e-3), at::kFloat, at::kCUDA);
}

TEST_CASE("cross_entropy on CUDA: a captured graph reads the current scale and gives the same bits",
          "[ops][cuda]") {
  const Columns c(130, 32768, 2, 8);
  const at::Tensor scale = Columns::scalar(1);
  ops::CrossEntropyGradient out;
  const auto work = [&] { out = ops::cross_entropy_with_gradient(c.hidden, c.w, c.labels, scale, kZLoss); };
  work();
  CapturedGraph graph(work);
  scale.fill_(0.3);
  c.w->grad.zero_();
  graph.replay();
  const ops::CrossEntropyGradient replayed = out;
  const at::Tensor grad = c.w->grad.clone();
  const auto plain = c.run(0.3);
  REQUIRE(same_bits(replayed.result.loss, plain.result.loss));
  REQUIRE(same_bits(replayed.dhidden, plain.dhidden));
  REQUIRE(same_bits(grad, c.w->grad));
}
