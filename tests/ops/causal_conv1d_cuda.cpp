// The causal convolution on a GPU against f64 on the CPU, on the same numbers.
#include "ops/causal_conv1d.h"
#include "support/catch.h"
#include "support/ssd_case.h"

using namespace transxssm;

TEST_CASE("causal_conv1d: CUDA results and gradients are close to f64", "[ops][cuda]") {
  const at::ScalarType dtype = GENERATE(at::kFloat, at::kBFloat16);
  const ops::Documents documents = documents_at({{1, 5, 6}, {}}, 101);
  const at::Tensor x = f64_tensor({2, 101, 40}, 3).to(dtype), dy = f64_tensor({2, 101, 40}, 4).to(dtype);
  const auto outcome = [&](at::ScalarType type, at::Device device) {
    const at::ScalarType acc = type == at::kDouble ? at::kDouble : at::kFloat;
    const auto parameter = [&](at::IntArrayRef shape, uint64_t seed) {
      const at::Tensor w = f64_tensor(shape, seed).to(at::kFloat).to(device, acc).requires_grad_(true);
      return c10::make_intrusive<Parameter>("p", w, at::zeros_like(w.detach()));
    };
    const ParameterPtr w = parameter({33, 4}, 1), bias = parameter({33}, 2);
    const at::Tensor leaf = x.to(device, type).requires_grad_(true);
    const ops::Documents there = ops::make_documents(documents.offsets.to(device), 2, 101);
    const at::Tensor y = ops::causal_conv1d(leaf, w, bias, there);
    y.backward(dy.to(device, type));
    return std::vector{y.detach(), leaf.grad(), w->grad, bias->grad};
  };
  const auto actual = outcome(dtype, at::kCUDA), exact = outcome(at::kDouble, at::kCPU);
  // One rounding of the result: 2⁻⁹ of each value at most.
  const double limit = dtype == at::kFloat ? 1e-6 : 3e-3;
  for (size_t i = 0; i < exact.size(); ++i) {
    CAPTURE(i);
    REQUIRE(rms_error(actual[i], exact[i]) <= limit);
  }
}

namespace {

struct ConvOutcome {
  at::Tensor y, dx, dw, dbias;
};

// With the numbers of bf16 activations: by the kernels in bf16, by the reference in f64 on the CPU.
ConvOutcome convolve(const at::Tensor& x, const at::Tensor& dy, int64_t channels, int64_t taps,
                     const ops::Documents& documents, at::ScalarType dtype, at::Device device) {
  const at::ScalarType acc = dtype == at::kDouble ? at::kDouble : at::kFloat;
  const auto parameter = [&](at::IntArrayRef shape, uint64_t seed) {
    const at::Tensor w = f64_tensor(shape, seed).to(at::kFloat).to(device, acc).requires_grad_(true);
    return c10::make_intrusive<Parameter>("p", w, at::zeros_like(w.detach()));
  };
  const ParameterPtr w = parameter({channels, taps}, 1), bias = parameter({channels}, 2);
  // Columns of wider rows, as in the packed projection.
  const at::Tensor wide =
      at::zeros({x.size(0), x.size(1), x.size(2) + 12}, x.options().dtype(dtype).device(device));
  wide.narrow(2, 4, x.size(2)).copy_(x);
  const at::Tensor leaf = wide.narrow(2, 4, x.size(2)).detach().requires_grad_(true);
  const ops::Documents there = ops::make_documents(documents.offsets.to(device), x.size(0), x.size(1));
  const at::Tensor y = ops::causal_conv1d(leaf, w, bias, there);
  y.backward(dy.to(device, dtype));
  return {y.detach(), leaf.grad(), w->grad, bias->grad};
}

}  // namespace

TEST_CASE("causal_conv1d kernels: close to f64 with documents anywhere, and the same in every run",
          "[ops][cuda]") {
  // A run has 32 tokens, a block four of them and 128 columns.
  const int64_t tokens = GENERATE(1, 2, 31, 33, 131, 259);
  const int64_t taps = GENERATE(2, 3, 4), channels = GENERATE(4, 132);
  const ops::Documents documents = documents_at({{1, 2, 5, 30, 32, 33, 64, 127, 128, 130}, {}}, tokens);
  const int64_t columns = channels + 8;
  const at::Tensor x = f64_tensor({2, tokens, columns}, 3).to(at::kBFloat16);
  const at::Tensor dy = f64_tensor({2, tokens, columns}, 4).to(at::kBFloat16);
  const auto run = [&](at::ScalarType dtype, at::Device device) {
    return convolve(x, dy, channels, taps, documents, dtype, device);
  };
  const ConvOutcome exact = run(at::kDouble, at::kCPU), actual = run(at::kBFloat16, at::kCUDA),
                    again = run(at::kBFloat16, at::kCUDA);
  for (const auto part : {&ConvOutcome::y, &ConvOutcome::dx, &ConvOutcome::dw, &ConvOutcome::dbias}) {
    REQUIRE(rms_error(actual.*part, exact.*part) <= 4e-3);
    REQUIRE(same_bits(actual.*part, again.*part));
  }
  REQUIRE(same_bits(actual.y.narrow(2, channels, 8), x.narrow(2, channels, 8)));
}
