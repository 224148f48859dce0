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
