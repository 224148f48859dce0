// The kernels of SwiGLU: bf16 against fp64 on the same numbers.
#include "csrc_cuda/swiglu/params.h"
#include "norm_cases.h"
#include "ops/cuda_stream.h"
#include "ops/swiglu.h"
#include "ops/swiglu_rows.h"
#include "support/guarded.h"

using namespace transxssm;

namespace {

at::Tensor on_gpu(at::IntArrayRef shape, uint64_t seed, double scale = 1) {
  return f64_tensor(shape, seed, scale).to(at::kBFloat16).to(at::kCUDA);
}

}  // namespace

TEST_CASE("swiglu kernels: values and gradients are close to fp64 and the same in every run", "[ops][cuda]") {
  const auto [rows, width] =
      GENERATE(table<int64_t, int64_t>({{1, 8}, {7, 24}, {63, 136}, {257, 1000}, {31, 2048}}));
  require_kernel(swiglu_case(rows, width));
}

TEST_CASE("swiglu_linear on CUDA: close to fp64 and the same in every run", "[ops][cuda]") {
  // The product's own rounding comes on top of the activation's.
  require_kernel(swiglu_linear_case(65, 136, 72), 6e-3);
}

TEST_CASE("swiglu kernels: backward rebuilds the product bit for bit", "[ops][cuda]") {
  const at::Tensor packed = on_gpu({129, 2 * 264}, 1, 4), dh = on_gpu({129, 264}, 2);
  const auto with = ops::swiglu_rows_bwd(dh, packed, true), without = ops::swiglu_rows_bwd(dh, packed, false);
  REQUIRE(same_bits(with.h, ops::swiglu_rows_fwd(packed)));
  REQUIRE(same_bits(with.d_packed, without.d_packed));
}

TEST_CASE("swiglu kernels: gates of any size stay finite", "[ops][cuda]") {
  const at::Tensor packed = on_gpu({33, 2 * 64}, 1, 1e4), dh = on_gpu({33, 64}, 2);
  const auto out = ops::swiglu_rows_bwd(dh, packed, true);
  REQUIRE(out.h.isfinite().all().item<bool>());
  REQUIRE(out.d_packed.isfinite().all().item<bool>());
}

TEST_CASE("swiglu kernels: write their outputs and nothing else", "[ops][cuda]") {
  const int64_t rows = 13, width = GENERATE(8, 72, 1000);
  Guarded guarded;
  const at::Tensor packed = on_gpu({rows, 2 * width}, 1), dh = on_gpu({rows, width}, 2);
  const at::Tensor h = guarded.make({rows, width}, dh.options()),
                   again = guarded.make({rows, width}, dh.options()),
                   d_packed = guarded.make({rows, 2 * width}, dh.options());
  kernels::swiglu_forward({packed.const_data_ptr(), h.mutable_data_ptr(), rows, width},
                          ops::current_stream(packed));
  kernels::swiglu_backward({dh.const_data_ptr(), packed.const_data_ptr(), d_packed.mutable_data_ptr(),
                            again.mutable_data_ptr(), rows, width},
                           ops::current_stream(packed));
  REQUIRE(guarded.intact());
  for (const at::Tensor& written : {h, d_packed}) REQUIRE(written.ne(-12288).all().item<bool>());
}
