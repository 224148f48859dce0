// The norm over flat buffers on a CPU.
#include "ops/grad_norm.h"

#include <cmath>

#include <ATen/Parallel.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include "support/catch.h"
#include "support/compare.h"
#include "support/gradcheck.h"

using namespace transxssm;

namespace {

at::Tensor f32(at::IntArrayRef shape, uint64_t seed) { return f64_tensor(shape, seed).to(at::kFloat); }

}  // namespace

TEST_CASE("grad_norm: literal values over several buffers, one of them empty", "[ops]") {
  const auto buffer = [](int64_t n, double value) {
    return at::full({n}, value, at::TensorOptions(at::kFloat));
  };
  REQUIRE(ops::grad_norm({buffer(4, 2), buffer(0, 0), buffer(1, -3)}).item<float>() == 5.0f);
  REQUIRE(ops::grad_norm({buffer(17, 0)}).item<float>() == 0.0f);
}

TEST_CASE("grad_norm: equals the f64 norm at awkward sizes", "[ops]") {
  const int64_t n = GENERATE(1, 15, 16, 17, 16383, 16384, 16385, 100003);
  const at::Tensor a = f32({n}, 1);
  const at::Tensor b = f32({7}, 2);
  const double exact = std::hypot(as_f64(a).norm().item<double>(), as_f64(b).norm().item<double>());
  // Each f32 running sum has at most 1024 + 1 terms; their errors average out far below the bound of 1024
  // roundings.
  REQUIRE(std::abs(ops::grad_norm({a, b}).item<double>() / exact - 1) < 1e-6);
  REQUIRE(std::abs(ops::grad_norm({as_f64(a), as_f64(b)}).item<double>() / exact - 1) < 1e-7);
}

TEST_CASE("grad_norm: the number of threads changes no bit", "[ops]") {
  const at::Tensor grad = f32({300007}, 3);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor one = ops::grad_norm({grad});
  at::set_num_threads(3);
  const at::Tensor three = ops::grad_norm({grad});
  at::set_num_threads(threads);
  REQUIRE(same_bits(one, three));
}

TEST_CASE("grad_norm: a non-finite element shows in the norm", "[ops]") {
  at::Tensor grad = f32({1009}, 3);
  grad[500] = HUGE_VALF;
  REQUIRE(std::isinf(ops::grad_norm({grad}).item<float>()));
  grad[501] = NAN;
  REQUIRE(std::isnan(ops::grad_norm({grad}).item<float>()));
}

TEST_CASE("grad_norm: buffers of another shape, layout or dtype are refused", "[ops]") {
  const at::Tensor grad = f32({6}, 1);
  REQUIRE_THROWS(ops::grad_norm({}));
  REQUIRE_THROWS(ops::grad_norm({grad.view({2, 3})}));
  REQUIRE_THROWS(ops::grad_norm({grad.slice(0, 0, 6, 2)}));
  REQUIRE_THROWS(ops::grad_norm({grad.to(at::kBFloat16)}));
}
