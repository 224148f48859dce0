// What the plan counts is what the operators' shapes say.
#include "model/memory.h"

#include <algorithm>

#include "support/catch.h"

using namespace transxssm;

namespace {

constexpr int64_t kTokens = 8 * 4096;
const ActivationShape kShape{8, 4096};

int64_t sum(const std::vector<KeptTensor>& kept) {
  int64_t bytes = 0;
  for (const KeptTensor& tensor : kept) bytes += tensor.bytes;
  return bytes;
}

}  // namespace

TEST_CASE("memory: a block of TransXSSM keeps its streams, packed projections, states and outputs") {
  const ModelConfig model;  // 320M: width 1024, 8 heads, MLP 2048
  const int64_t stream = 2 * 1024, mlp = 2 * 2048, packed = 3 * 1024 + 8, states = 8 * 128;
  REQUIRE(sum(kept_by_block(model, MixerKind::ssd, kShape, Recompute::none)) ==
          kTokens * (2 * (2 * stream + mlp + packed + 1024 + states) + 2 * 4));
  REQUIRE(sum(kept_by_block(model, MixerKind::attention, kShape, Recompute::none)) ==
          kTokens * (2 * (2 * stream + mlp + 3 * 1024 + 1024) + 8 * 4 + 2 * 4));
}

TEST_CASE("memory: selective recompute keeps two tensors of the stream's width less a layer") {
  const ModelConfig model;
  const auto none = activation_memory(model, kShape, Recompute::none);
  const auto selective = activation_memory(model, kShape, Recompute::selective);
  REQUIRE(none.peak() - selective.peak() == 32 * kTokens * 2 * 2 * 1024);
}

TEST_CASE("memory: recompute keeps the inputs of blocks and runs one block at a time") {
  const ModelConfig model;
  const auto kept = activation_memory(model, kShape, Recompute::none);
  const auto recomputed = activation_memory(model, kShape, Recompute::full);
  REQUIRE(recomputed.ssd_layers == 28 * kTokens * 2 * 2 * 1024);
  REQUIRE(recomputed.backward > kept.backward);
  REQUIRE(recomputed.peak() * 3 < kept.peak());
}

TEST_CASE("memory: twice the sequences keep twice as much; f32 twice of bf16's tensors") {
  const ModelConfig model;
  const auto one = activation_memory(model, {1, 4096}, Recompute::none);
  const auto two = activation_memory(model, {2, 4096}, Recompute::none);
  REQUIRE(two.ssd_layers == 2 * one.ssd_layers);
  REQUIRE(two.attention_layers == 2 * one.attention_layers);
  const auto f32 = activation_memory(model, {1, 4096, 4, {false, false, false}}, Recompute::none);
  REQUIRE(f32.attention_layers > 1.99 * one.attention_layers);
}

TEST_CASE("memory: parts that are configured are counted") {
  ModelConfig model;
  const auto bytes = [&](MixerKind mixer) {
    return sum(kept_by_block(model, mixer, kShape, Recompute::none));
  };
  const int64_t plain_ssd = bytes(MixerKind::ssd), plain_attention = bytes(MixerKind::attention);
  model.ssd.conv_width = 4;
  const int64_t convolved = bytes(MixerKind::ssd);
  REQUIRE(convolved == plain_ssd + kTokens * 2 * (3 * 1024 + 8));
  model.ssd.gate = true;
  REQUIRE(bytes(MixerKind::ssd) == convolved + kTokens * (2 * (1024 + 1024) + 4));  // z and the gated y
  model.attention.qk_norm = true;
  REQUIRE(bytes(MixerKind::attention) == plain_attention + kTokens * (2 * 3 * 1024 + 16 * 4));
  model.attention.num_kv_heads = 2;
  REQUIRE(bytes(MixerKind::attention) == plain_attention + kTokens * (2 * 3 * 512 + 10 * 4 - 2 * 3 * 512));
}

TEST_CASE(
    "memory: attention's backward pass has room for the gradients of its scores, within 2 GiB but for one "
    "head") {
  const ModelConfig model;
  const auto beyond = [&](int64_t batch, int64_t seq_len, bool deterministic = true) {
    ActivationShape shape{batch, seq_len};
    shape.deterministic = deterministic;
    ModelConfig narrow = model;
    narrow.intermediate_size = 0;  // so that attention is the widest operator
    return activation_memory(narrow, shape, Recompute::none).backward -
           batch * seq_len * (2 * (3 * 1024 + 3 * 1024 + 1024) + 4 * 8);
  };
  REQUIRE(beyond(8, 4096) == int64_t{2} << 30);           // 8 rows, 4096² scores of 8 heads, bf16
  REQUIRE(beyond(1, 65536) == int64_t{2} << 32);          // a head alone has 65536²
  REQUIRE(beyond(8, 4096, false) == kTokens * 4 * 1024);  // dQ in f32
}
