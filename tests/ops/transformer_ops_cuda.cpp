// Linear, embedding, norms and SwiGLU on CUDA: fp32 and bf16 against fp64 on the CPU.
#include "linear_cases.h"
#include "norm_cases.h"

using namespace transxssm;

namespace {

void require_cuda_precision(const OpCase& c) {
  require_precision(c, at::kFloat, at::kCUDA);
  require_precision(c, at::kBFloat16, at::kCUDA);
}

}  // namespace

TEST_CASE("linear on CUDA: fp32 and bf16 lose no more than a plain product", "[ops][cuda]") {
  require_cuda_precision(linear_case({1}, 31, 17));
  require_cuda_precision(linear_case({2, 33}, 129, 65));
  require_cuda_precision(linear_case({3, 127}, 256, 384));
}

TEST_CASE("linear on CUDA: the bf16 weight gradient is summed and kept in f32", "[ops][cuda]") {
  const OpCase c = linear_case({2, 2048}, 64, 48);
  OpCase rounded = c;  // the same bf16 operands, every later step in fp64
  rounded.inputs[0] = c.inputs[0].to(at::kBFloat16).to(at::kDouble);
  const Tensors actual = run_op(c, at::kBFloat16, at::kCUDA);
  const at::Tensor dy = f64_tensor({2, 2048, 48}, 78).to(at::kBFloat16).to(at::kDouble);
  const at::Tensor exact = dy.flatten(0, 1).t().matmul(rounded.inputs[0].flatten(0, 1));
  REQUIRE(actual[2].scalar_type() == at::kFloat);
  REQUIRE(max_abs_diff(actual[2], exact) <= 1e-5 * max_abs(exact));
}

TEST_CASE("embedding on CUDA: gradients match and have the same bits in every run", "[ops][cuda]") {
  for (const int64_t tokens : {7, 1009, 5003}) {
    const OpCase c = embedding_case(2, tokens, 97, 65);
    require_cuda_precision(c);
    const at::Tensor first = run_op(c, at::kBFloat16, at::kCUDA)[1];
    for (int repeat = 0; repeat < 5; ++repeat)
      REQUIRE(same_bits(run_op(c, at::kBFloat16, at::kCUDA)[1], first));
  }
}

TEST_CASE("norms on CUDA: fp32 and bf16 lose no more than the plain formula", "[ops][cuda]") {
  const auto [rows, width] = GENERATE(table<int64_t, int64_t>({{7, 33}, {63, 65}, {2, 1009}, {129, 1024}}));
  require_cuda_precision(rms_norm_case(rows, width));
  require_cuda_precision(residual_case(rows, width, true));
  require_cuda_precision(residual_case(rows, width, false));
  require_cuda_precision(gated_case(rows, width));
}

TEST_CASE("swiglu on CUDA: fp32 and bf16 lose no more than the plain formula", "[ops][cuda]") {
  require_cuda_precision(swiglu_case(7, 33));
  require_cuda_precision(swiglu_case(63, 129));
}
