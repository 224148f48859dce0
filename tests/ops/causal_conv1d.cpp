// The causal depthwise convolution.
#include "ops/causal_conv1d.h"

#include <cmath>

#include <ATen/ops/cat.h>

#include "support/catch.h"
#include "support/gradcheck.h"
#include "support/ssd_case.h"

using namespace transxssm;

namespace {

// The formula, element by element.
at::Tensor literal(const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias,
                   const ops::Documents& docs, const std::optional<at::Tensor>& initial) {
  at::Tensor y = x.clone();
  const int64_t channels = w.size(0), taps = w.size(1);
  const auto ids = docs.ids.accessor<int32_t, 2>();
  const auto in = x.accessor<double, 3>();
  for (int64_t b = 0; b < x.size(0); ++b)
    for (int64_t t = 0; t < x.size(1); ++t)
      for (int64_t c = 0; c < channels; ++c) {
        double sum = bias[c].item<double>();
        for (int64_t k = 0; k < taps; ++k) {
          const int64_t from = t - (taps - 1) + k;
          double value = 0;
          if (from >= 0 && ids[b][from] == ids[b][t]) value = in[b][from][c];
          if (from < 0 && ids[b][0] == ids[b][t] && initial)
            value = (*initial)[b][from + taps - 1][c].item<double>();
          sum += w[c][k].item<double>() * value;
        }
        y[b][t][c] = sum / (1 + std::exp(-sum));
      }
  return y;
}

struct ConvCase {
  ParameterPtr w = f64_parameter("w", {3, 4}, 1);
  ParameterPtr bias = f64_parameter("bias", {3}, 2);
  ops::Documents documents = documents_at({{1, 5, 6}, {}}, 11);
  at::Tensor x = f64_tensor({2, 11, 5}, 3);
  std::optional<at::Tensor> initial;

  at::Tensor run() const { return ops::causal_conv1d(x, w, bias, documents, initial); }
};

}  // namespace

TEST_CASE("causal_conv1d: equals the formula with documents, initial inputs and extra columns", "[ops]") {
  ConvCase c;
  if (GENERATE(false, true)) c.initial = f64_tensor({2, 3, 3}, 4);
  if (GENERATE(false, true)) c.documents = ops::one_document_per_row(2, 11, at::kCPU);
  const at::Tensor y = c.run();
  REQUIRE(max_abs_diff(y, literal(c.x, c.w->weight.detach(), c.bias->weight.detach(), c.documents,
                                  c.initial)) < 1e-13);
  REQUIRE(same_bits(y.narrow(2, 3, 2), c.x.narrow(2, 3, 2)));
}

TEST_CASE("causal_conv1d: rows shorter than the kernel and a kernel of one tap work", "[ops]") {
  ConvCase c;
  c.x = f64_tensor({2, 2, 5}, 3);
  c.documents = documents_at({{1}, {}}, 2);
  if (GENERATE(false, true)) c.w = f64_parameter("w", {3, 1}, 1);
  REQUIRE(max_abs_diff(c.run(),
                       literal(c.x, c.w->weight.detach(), c.bias->weight.detach(), c.documents, {})) < 1e-13);
  gradcheck(
      [&](const std::vector<at::Tensor>& in) {
        return std::vector{ops::causal_conv1d(in[0], c.w, c.bias, c.documents)};
      },
      {c.x}, {c.w, c.bias});
}

TEST_CASE("causal_conv1d: backward agrees with central differences", "[ops]") {
  ConvCase c;
  if (GENERATE(false, true)) c.documents = ops::one_document_per_row(2, 11, at::kCPU);
  c.initial = f64_tensor({2, 3, 3}, 4);
  gradcheck(
      [&](const std::vector<at::Tensor>& in) {
        return std::vector{ops::causal_conv1d(in[0], c.w, c.bias, c.documents, c.initial)};
      },
      {c.x}, {c.w, c.bias});
}

TEST_CASE("causal_conv1d: splitting with the last inputs handed over equals one pass", "[ops]") {
  ConvCase c;
  c.documents = ops::one_document_per_row(2, 11, at::kCPU);
  const at::Tensor whole = c.run();
  const int64_t at = GENERATE(3, 4, 10);
  const at::Tensor first =
      ops::causal_conv1d(c.x.narrow(1, 0, at), c.w, c.bias, ops::one_document_per_row(2, at, at::kCPU));
  const at::Tensor second = ops::causal_conv1d(c.x.narrow(1, at, 11 - at), c.w, c.bias,
                                               ops::one_document_per_row(2, 11 - at, at::kCPU, at),
                                               c.x.narrow(1, at - 3, 3).narrow(2, 0, 3));
  REQUIRE(max_abs_diff(at::cat({first, second}, 1), whole) < 1e-13);
}

TEST_CASE("causal_conv1d_step: steps equal one pass and keep the last inputs", "[ops]") {
  ConvCase c;
  c.documents = ops::one_document_per_row(2, 11, at::kCPU);
  const at::Tensor whole = c.run();
  at::Tensor window = at::zeros({2, 3, 3}, c.x.options());
  for (int64_t t = 0; t < 11; ++t)
    REQUIRE(max_abs_diff(ops::causal_conv1d_step(c.x.select(1, t), c.w, c.bias, window), whole.select(1, t)) <
            1e-13);
  REQUIRE(same_bits(window, c.x.narrow(1, 8, 3).narrow(2, 0, 3)));
}

TEST_CASE("causal_conv1d: a token changes nothing before it and nothing in other documents, bit for bit",
          "[ops]") {
  ConvCase c;
  c.x.requires_grad_(true);
  const at::Tensor dy = f64_tensor({2, 11, 5}, 8);
  const auto outcome = [&](const at::Tensor& x, const at::Tensor& gradient) {
    const at::Tensor leaf = x.detach().clone().requires_grad_(true);
    const at::Tensor y = ops::causal_conv1d(leaf, c.w, c.bias, c.documents);
    (y * gradient).sum().backward();
    return std::pair{y.detach(), leaf.grad()};
  };
  const auto [y, dx] = outcome(c.x, dy);

  // Row 0, document [1, 5): token 2 changes, and so does the gradient of its outputs.
  at::Tensor x_changed = c.x.detach().clone(), dy_changed = dy.clone();
  x_changed[0][2].add_(1);
  dy_changed[0].narrow(0, 1, 4).mul_(3);
  const auto [y_after, dx_after] = outcome(x_changed, dy_changed);
  REQUIRE(same_bits(y_after[0].narrow(0, 0, 2), y[0].narrow(0, 0, 2)));
  REQUIRE_FALSE(same_bits(y_after[0].narrow(0, 2, 3), y[0].narrow(0, 2, 3)));
  for (const auto& [after, before] : {std::pair{y_after, y}, std::pair{dx_after, dx}}) {
    REQUIRE(same_bits(after[0].narrow(0, 0, 1), before[0].narrow(0, 0, 1)));
    REQUIRE(same_bits(after[0].narrow(0, 5, 6), before[0].narrow(0, 5, 6)));
    REQUIRE(same_bits(after[1], before[1]));
  }
}

TEST_CASE("causal_conv1d: reads a strided view, and bf16 is computed in f32 and rounded once", "[ops]") {
  ConvCase c;
  const auto f32 = [](const ParameterPtr& p) {
    return c10::make_intrusive<Parameter>(p->name, p->weight.detach().to(at::kFloat), at::Tensor());
  };
  c.x = f64_tensor({2, 11, 9}, 3).to(at::kBFloat16).narrow(2, 2, 5);
  const at::Tensor y = ops::causal_conv1d(c.x, f32(c.w), f32(c.bias), c.documents);
  REQUIRE(y.scalar_type() == at::kBFloat16);
  REQUIRE(y.is_contiguous());
  c.x = c.x.to(at::kDouble).contiguous();
  REQUIRE(max_abs_diff(y, c.run()) <= 0x1p-8 * max_abs(c.run()));
}

TEST_CASE("causal_conv1d: wrong shapes are named with what was expected", "[ops]") {
  ConvCase c;
  const auto message = [&]() -> std::string {
    try {
      c.run();
    } catch (const std::exception& e) {
      return e.what();
    }
    return "";
  };
  c.initial = f64_tensor({2, 4, 3}, 4);
  REQUIRE(message().find("initial inputs: expected [2, 3, 3], got [2, 4, 3]") != std::string::npos);
  c.initial.reset();
  c.x = f64_tensor({2, 11, 2}, 3);
  REQUIRE(message().find("expected at least 3 columns, got 2") != std::string::npos);
}
