// The decode kernel of attention against masked products in f64: every place where its tiles and parts end.
#include <limits>
#include <utility>
#include <vector>

#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>

#include "attention_cases.h"
#include "ops/attention_cached.h"
#include "support/cuda_graph.h"
#include "support/guarded.h"
#include "support/require_error.h"

using namespace transxssm;

namespace {

const at::Device kGpu(at::kCUDA, 0);
constexpr int64_t kPositions = 5000;  // of the rotary table

// A batch whose row b stands at positions[b]: bf16 values, in f64 on the CPU.
struct StepCase {
  ops::AttentionDims dims;
  std::vector<int64_t> positions;
  at::Tensor packed;  // [B, columns]
  at::Tensor k, v;    // [B, G, S, P]
  bool rope = true;
};

StepCase make_case(int64_t heads, int64_t groups, int64_t width, const std::vector<int64_t>& positions,
                   int64_t capacity, bool rope) {
  StepCase c{{heads, groups, width}, positions, {}, {}, {}, rope};
  const auto rows = static_cast<int64_t>(positions.size());
  const auto bf16_values = [](at::IntArrayRef shape, uint64_t seed) {
    return f64_tensor(shape, seed).to(at::kBFloat16).to(at::kDouble);
  };
  c.packed = bf16_values({rows, ops::attention_packed_columns(c.dims) + 8}, 3);
  c.k = bf16_values({rows, groups, capacity, width}, 5);
  c.v = bf16_values({rows, groups, capacity, width}, 7);
  return c;
}

struct Stepped {
  at::Tensor out, k, v;
};

// On copies of the cache, or on `k` and `v`.
Stepped step(const StepCase& c, at::ScalarType dtype, at::Device device, ops::AttentionPath path,
             at::Tensor k = {}, at::Tensor v = {}) {
  ops::AttentionDims dims = c.dims;
  dims.path = path;
  const auto there = [&](const at::Tensor& x) { return x.to(device, dtype); };
  ops::AttentionCache cache{k.defined() ? k : there(c.k).clone(), v.defined() ? v : there(c.v).clone()};
  const at::Tensor packed = there(c.packed);
  const ops::RopeTable table = rope_like(packed, kPositions, dims.head_dim);
  const at::Tensor out = ops::attention_step(dims, packed, c.rope ? &table : nullptr, cache,
                                             at::tensor(c.positions, at::kLong).to(device));
  return {out, cache.k_bgsp, cache.v_bgsp};
}

Stepped by_kernel(const StepCase& c) { return step(c, at::kBFloat16, kGpu, ops::AttentionPath::automatic); }

}  // namespace

TEST_CASE("attention_step on CUDA: close to f64 at every length around tiles and parts", "[ops][cuda]") {
  const auto [heads, groups] =
      GENERATE(table<int64_t, int64_t>({{1, 1}, {4, 4}, {3, 1}, {4, 2}, {8, 2}, {8, 1}}));
  const int64_t width = GENERATE(64, 128);
  const bool rope = GENERATE(true, false);
  CAPTURE(heads, groups, width, rope);
  const std::vector<int64_t> positions{0,  1,   7,   15,  16,  17,  31,  32,  33,   63,   64,
                                       65, 127, 128, 129, 255, 256, 511, 512, 1009, 1152, 1279};
  const StepCase c = make_case(heads, groups, width, positions, 1280, rope);
  const Stepped exact = step(c, at::kDouble, at::kCPU, ops::AttentionPath::reference);
  const Stepped plain = step(c, at::kBFloat16, kGpu, ops::AttentionPath::reference);
  const Stepped fast = by_kernel(c);
  require_close("out", fast.out, plain.out, exact.out);
  require_close("keys", fast.k, plain.k, exact.k);
  REQUIRE(same_bits(fast.v, plain.v));
  REQUIRE(same_bits(by_kernel(c).out, fast.out));
}

TEST_CASE("attention_step on CUDA: long caches, few and many rows", "[ops][cuda]") {
  const auto [rows, groups] = GENERATE(table<int64_t, int64_t>({{1, 1}, {1, 16}, {33, 1}}));
  CAPTURE(rows, groups);
  std::vector<int64_t> positions;
  for (int64_t b = 0; b < rows; ++b) positions.push_back(4095 - 97 * b);
  const StepCase c = make_case(groups, groups, 128, positions, 4500, true);
  const Stepped exact = step(c, at::kDouble, at::kCPU, ops::AttentionPath::reference);
  const Stepped plain = step(c, at::kBFloat16, kGpu, ops::AttentionPath::reference);
  require_close("out", by_kernel(c).out, plain.out, exact.out);
}

TEST_CASE("attention_step on CUDA: large scores do not overflow", "[ops][cuda]") {
  StepCase c = make_case(4, 4, 128, {300, 64}, 320, true);
  c.packed.mul_(64);  // a power of two: still bf16 values
  c.k.mul_(64);
  const Stepped exact = step(c, at::kDouble, at::kCPU, ops::AttentionPath::reference);
  const Stepped plain = step(c, at::kBFloat16, kGpu, ops::AttentionPath::reference);
  require_close("out", by_kernel(c).out, plain.out, exact.out);
}

TEST_CASE("attention_step on CUDA: reads nothing behind a row's token, writes nothing but its place",
          "[ops][cuda]") {
  const StepCase c = make_case(4, 2, 128, {0, 37, 128, 199}, 200, true);
  Guarded guarded;
  const auto cache = [&](const at::Tensor& values) {
    at::Tensor x = guarded.make(values.sizes(), at::TensorOptions(kGpu).dtype(at::kBFloat16));
    x.copy_(values);
    for (size_t b = 0; b < c.positions.size(); ++b)
      x[static_cast<int64_t>(b)].slice(1, c.positions[b]).fill_(std::numeric_limits<float>::quiet_NaN());
    return x;
  };
  const at::Tensor k = cache(c.k), v = cache(c.v);
  const Stepped clean = by_kernel(c);
  const Stepped fast = step(c, at::kBFloat16, kGpu, ops::AttentionPath::automatic, k, v);
  REQUIRE(same_bits(fast.out, clean.out));
  REQUIRE(guarded.intact());
  for (const auto& [now, before] : {std::pair(k, c.k), std::pair(v, c.v)})
    for (size_t b = 0; b < c.positions.size(); ++b) {
      const at::Tensor row = now[static_cast<int64_t>(b)];
      REQUIRE(
          same_bits(row.narrow(1, 0, c.positions[b]),
                    before[static_cast<int64_t>(b)].narrow(1, 0, c.positions[b]).to(kGpu, at::kBFloat16)));
      REQUIRE(row.slice(1, c.positions[b] + 1).isnan().all().item<bool>());
      REQUIRE(row.select(1, c.positions[b]).isfinite().all().item<bool>());
    }
}

TEST_CASE("attention_step on CUDA: a replayed graph reads tokens and positions of the moment",
          "[ops][cuda]") {
  const StepCase c = make_case(4, 4, 128, {5, 130}, 200, true);
  const at::Tensor packed = c.packed.to(kGpu, at::kBFloat16).clone();
  const ops::RopeTable table = rope_like(packed, kPositions, 128);
  ops::AttentionCache cache{c.k.to(kGpu, at::kBFloat16), c.v.to(kGpu, at::kBFloat16)};
  ops::AttentionCache plain{cache.k_bgsp.clone(), cache.v_bgsp.clone()};
  const at::Tensor positions = at::tensor(c.positions, at::kLong).to(kGpu);
  at::Tensor out;
  CapturedGraph graph([&] { out = ops::attention_step(c.dims, packed, &table, cache, positions); });
  for (int t = 0; t < 40; ++t) {
    CAPTURE(t);
    const at::Tensor expected = ops::attention_step(c.dims, packed, &table, plain, positions);
    graph.replay();
    REQUIRE(same_bits(out, expected));
    positions.add_(1);
    packed.copy_(packed.roll(8, 1));
  }
  REQUIRE(same_bits(cache.k_bgsp, plain.k_bgsp));
}

TEST_CASE("attention cache on CUDA: filled with rotated keys, places behind untouched", "[ops][cuda]") {
  const auto [heads, groups, width] =
      GENERATE(table<int64_t, int64_t, int64_t>({{1, 1, 128}, {4, 2, 64}, {6, 3, 128}}));
  const int64_t tokens = GENERATE(1, 3, 31, 64, 257);
  const bool rope = GENERATE(true, false);
  CAPTURE(heads, groups, width, tokens, rope);
  const ops::AttentionDims dims{heads, groups, width};
  const at::Tensor values = f64_tensor({3, tokens, ops::attention_packed_columns(dims) + 8}, 11);
  Guarded guarded;
  const auto fill = [&](ops::AttentionPath path) {
    const at::Tensor packed = values.to(kGpu, at::kBFloat16);
    const ops::RopeTable table = rope_like(packed, tokens, width);
    const auto options = packed.options();
    ops::AttentionCache cache{guarded.make({3, groups, tokens + 5, width}, options).fill_(7),
                              guarded.make({3, groups, tokens + 5, width}, options).fill_(7)};
    ops::AttentionDims own = dims;
    own.path = path;
    ops::fill_attention_cache(own, packed, rope ? &table : nullptr,
                              ops::one_document_per_row(3, tokens, kGpu), cache);
    return cache;
  };
  const auto fast = fill(ops::AttentionPath::automatic), plain = fill(ops::AttentionPath::reference);
  REQUIRE(guarded.intact());
  REQUIRE(same_bits(fast.v_bgsp, plain.v_bgsp));
  REQUIRE(max_abs_diff(fast.k_bgsp, plain.k_bgsp) <= (rope ? 0.0079 * max_abs(plain.k_bgsp) : 0));
  REQUIRE(fast.k_bgsp.slice(2, tokens).eq(7).all().item<bool>());
}

TEST_CASE("attention_prefill on CUDA: loses no more than plain products and fills the cache", "[ops][cuda]") {
  const int64_t width = GENERATE(64, 128);
  const AttentionShape s{{4, 2, width}, 2, 133, {0, 133, 266}, true, 0};
  const at::Tensor exact = literal_attention(s, attention_case(s).inputs[0]);
  const auto run = [&](ops::AttentionPath path) {
    const at::Tensor packed = attention_case(s).inputs[0].to(kGpu, at::kBFloat16);
    const ops::RopeTable table = rope_like(packed, s.seq_len, width);
    const at::Tensor k = at::zeros({2, 2, 140, width}, packed.options());
    ops::AttentionCache cache{k, k.clone()};
    ops::AttentionDims dims = s.dims;
    dims.path = path;
    const at::Tensor out =
        ops::attention_prefill(dims, packed, &table, ops::one_document_per_row(2, 133, kGpu), cache);
    return Stepped{out, cache.k_bgsp, cache.v_bgsp};
  };
  const Stepped fast = run(ops::AttentionPath::automatic), plain = run(ops::AttentionPath::reference);
  require_close("prefill", fast.out, plain.out, exact);
  REQUIRE(same_bits(fast.v, plain.v));
  REQUIRE(max_abs_diff(fast.k, plain.k) <= 0.0079 * max_abs(plain.k));  // a bf16 step
}
