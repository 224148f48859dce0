// The norm's kernels against fp64, and run against run.
#include <cmath>

#include "ops/grad_norm.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/gradcheck.h"

using namespace transxssm;

namespace {

at::Tensor on_gpu(int64_t n, uint64_t seed) { return f64_tensor({n}, seed).to(at::kFloat).to(at::kCUDA); }

}  // namespace

TEST_CASE("grad_norm on CUDA: equals the f64 norm at awkward sizes", "[ops][cuda]") {
  // 8 elements a thread and iteration, 256 threads, 1024 blocks: one grid covers 2097152 elements.
  const int64_t n = GENERATE(0, 1, 7, 8, 9, 2047, 2049, 2097151, 2097152, 2097153, 5000011);
  const at::Tensor a = on_gpu(n, 1);
  const at::Tensor b = on_gpu(13, 2);
  const double exact = std::hypot(as_f64(a).norm().item<double>(), as_f64(b).norm().item<double>());
  const at::Tensor norm = ops::grad_norm({a, b});
  REQUIRE(norm.is_cuda());
  // The running f32 sums here have at most 3 terms: a few roundings of 2^-24, the last one that of the
  // result.
  REQUIRE(std::abs(norm.item<double>() / exact - 1) < 4 * 0x1p-24);
}

TEST_CASE("grad_norm on CUDA: repeated runs give the same bits", "[ops][cuda]") {
  const at::Tensor grad = on_gpu(3000017, 5);
  const at::Tensor first = ops::grad_norm({grad});
  for (int i = 0; i < 5; ++i) REQUIRE(same_bits(ops::grad_norm({grad}), first));
}

TEST_CASE("grad_norm on CUDA: a non-finite element anywhere shows in the norm", "[ops][cuda]") {
  const int64_t n = 2049;
  for (const int64_t place : {int64_t{0}, n / 2, n - 1}) {
    at::Tensor grad = on_gpu(n, 3);
    grad[place] = NAN;
    REQUIRE(std::isnan(ops::grad_norm({grad}).item<float>()));
  }
}

TEST_CASE("grad_norm on CUDA: a misaligned buffer is refused, not misread", "[ops][cuda]") {
  REQUIRE_THROWS(ops::grad_norm({on_gpu(9, 1).slice(0, 1)}));
}
