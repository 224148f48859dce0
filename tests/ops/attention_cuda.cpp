// Attention on CUDA by LibTorch: plain masked products and varlen flash attention against fp64 on the CPU.
#include <ATen/ops/zeros.h>

#include "attention_cases.h"

using namespace transxssm;

namespace {

AttentionShape ragged(int64_t head_dim, int64_t num_kv_heads) {
  return {{2, num_kv_heads, head_dim, ops::AttentionPath::reference},
          3,
          67,
          {0, 1, 40, 67, 134, 155, 197, 201, 201, 201},
          true,
          8};
}

}  // namespace

TEST_CASE("attention on CUDA: both of LibTorch's paths lose no more than plain products", "[ops][cuda]") {
  const bool deterministic = GENERATE(true, false);
  for (const AttentionShape& shape : {ragged(64, 2), ragged(128, 1), ragged(24, 2)}) {
    require_precision(attention_case(shape, deterministic), at::kFloat, at::kCUDA);
    require_precision(attention_case(shape, deterministic), at::kBFloat16, at::kCUDA);
  }
}

TEST_CASE("attention on CUDA: a head width that no fast path takes still gives the formula", "[ops][cuda]") {
  AttentionShape s = ragged(6, 1);
  s.dims.path = ops::AttentionPath::automatic;
  require_precision(attention_case(s, false), at::kBFloat16, at::kCUDA);
}

TEST_CASE("attention on CUDA: a sequence of several query blocks gives the formula on both paths",
          "[ops][cuda]") {
  const bool deterministic = GENERATE(true, false);
  // 128 MiB of f32 scores are 839 queries of 8 heads over 4999 keys.
  const AttentionShape s{{8, 4, 16, ops::AttentionPath::reference}, 1, 4999, {0, 1700, 4999, 4999}, true, 0};
  require_precision(attention_case(s, deterministic), at::kBFloat16, at::kCUDA);
}

TEST_CASE("attention on CUDA: the gradient of plain products has the same bits in every run", "[ops][cuda]") {
  const OpCase c = attention_case(
      {{4, 2, 64, ops::AttentionPath::reference}, 2, 1009, {0, 300, 1009, 2018, 2018}, true, 0});
  const Tensors first = run_op(c, at::kBFloat16, at::kCUDA);
  for (int repeat = 0; repeat < 5; ++repeat) {
    const Tensors again = run_op(c, at::kBFloat16, at::kCUDA);
    REQUIRE(same_bits(again[0], first[0]));
    REQUIRE(same_bits(again[1], first[1]));
  }
}
