// Promises of decoding, for every architecture: a prompt and then token by token gives what one pass gives,
// in batches of prompts of any length what each gives alone.
#include <numeric>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "support/catch.h"
#include "support/tiny_model.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

// Different orders of f32 summation through a few layers, relative to the norm of a row of logits.
constexpr double kRounding = 2e-5;

double relative_error(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm().clamp_min(1e-30)).item<double>();
}

at::Tensor one_pass(const HybridModel& model, const at::Tensor& tokens_bt) {
  return model.logits(tokens_bt,
                      ops::one_document_per_row(tokens_bt.size(0), tokens_bt.size(1), tokens_bt.device()));
}

// Row b has lengths[b] tokens of prompt, then `steps` more, all from tokens_bt. Logits of the last token of
// the prompt and of those after it, [steps + 1, B, V].
at::Tensor decoded(const HybridModel& model, const at::Tensor& tokens_bt, const std::vector<int64_t>& lengths,
                   int64_t steps) {
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  DecodeState state = model.start_decoding(tokens_bt.size(0), longest + steps);
  std::vector<at::Tensor> out{model.prefill(make_prompts(tokens_bt.narrow(1, 0, longest), lengths), state)};
  for (int64_t i = 0; i < steps; ++i) {
    std::vector<int64_t> next;
    for (size_t b = 0; b < lengths.size(); ++b)
      next.push_back(tokens_bt[static_cast<int64_t>(b)][lengths[b] + i].item<int64_t>());
    out.push_back(model.step(at::tensor(next, at::kLong), state));
  }
  return at::stack(out);
}

// Around the borders of a chunk of 16 tokens, of two and of four.
const std::vector<int64_t> kLengths{1, 2, 3, 4, 15, 16, 17, 31, 32, 33, 63, 64, 65};

}  // namespace

TEST_CASE("decoding: a prompt of any length and then token by token gives what one pass gives") {
  const at::NoGradGuard no_grad;
  for (const auto& name : architectures()) {
    TinyModel tiny(tiny_config(name));
    const auto tokens = random_tokens(2, 85, 9);
    const auto whole = one_pass(tiny.model, tokens);
    for (const int64_t length : kLengths) {
      CAPTURE(name, length);
      const auto steps = decoded(tiny.model, tokens, {length, length}, 20);
      const auto expected = whole.narrow(1, length - 1, 21).transpose(0, 1);
      REQUIRE(relative_error(steps, expected) < kRounding);
      REQUIRE(at::equal(steps.argmax(-1), expected.argmax(-1)));
    }
  }
}

TEST_CASE("decoding: chunks of the shipped lengths give what one pass gives") {
  const at::NoGradGuard no_grad;
  const int64_t chunk_size = GENERATE(64, 128);
  for (const auto& name : architectures()) {
    auto config = tiny_config(name);
    config.ssd.chunk_size = chunk_size;
    TinyModel tiny(config, {512});
    const auto tokens = random_tokens(1, 270, 10);
    const auto whole = one_pass(tiny.model, tokens);
    for (const int64_t length : {63, 64, 65, 127, 128, 129, 255, 256, 257}) {
      CAPTURE(name, length);
      const auto steps = decoded(tiny.model, tokens, {length}, 2);
      REQUIRE(relative_error(steps, whole.narrow(1, length - 1, 3).transpose(0, 1)) < kRounding);
    }
  }
}

TEST_CASE("decoding: prompts of every length in one batch give what each gives alone") {
  const at::NoGradGuard no_grad;
  const auto rows = static_cast<int64_t>(kLengths.size());
  for (const auto& name : architectures()) {
    TinyModel tiny(tiny_config(name));
    const auto tokens = random_tokens(rows, 75, 11);
    const auto together = decoded(tiny.model, tokens, kLengths, 10);
    for (int64_t b = 0; b < rows; ++b) {
      CAPTURE(name, b);
      const auto alone = decoded(tiny.model, tokens.narrow(0, b, 1), {kLengths[static_cast<size_t>(b)]}, 10);
      REQUIRE(relative_error(together.select(1, b), alone.select(1, 0)) < kRounding);
      REQUIRE(at::equal(together.select(1, b).argmax(-1), alone.select(1, 0).argmax(-1)));
    }
  }
}

TEST_CASE("decoding: what stands behind a row's prompt changes nothing, bit for bit") {
  const at::NoGradGuard no_grad;
  for (const auto& name : architectures()) {
    CAPTURE(name);
    TinyModel tiny(tiny_config(name));
    const std::vector<int64_t> lengths{5, 33, 18};
    std::vector<at::Tensor> seen;
    for (const int64_t behind : {0, 60}) {
      auto tokens = random_tokens(3, 33, 12);
      for (int64_t b = 0; b < 3; ++b)
        tokens[b]
            .narrow(0, lengths[static_cast<size_t>(b)], 33 - lengths[static_cast<size_t>(b)])
            .fill_(behind);
      DecodeState state = tiny.model.start_decoding(3, 40);
      seen.push_back(tiny.model.prefill(make_prompts(tokens, lengths), state));
      for (int64_t i = 0; i < 7; ++i)
        seen.push_back(tiny.model.step(random_tokens(1, 3, 13 + static_cast<uint64_t>(i))[0], state));
    }
    for (size_t i = 0; i < seen.size() / 2; ++i) REQUIRE(at::equal(seen[i], seen[i + seen.size() / 2]));
  }
}

TEST_CASE("decoding: a state is used again for other prompts, bit for bit as if new") {
  const at::NoGradGuard no_grad;
  for (const auto& name : architectures()) {
    CAPTURE(name);
    TinyModel tiny(tiny_config(name));
    const auto run = [&](DecodeState& state, uint64_t seed) {
      const auto first = tiny.model.prefill(make_prompts(random_tokens(2, 9, seed), {9, 4}), state);
      return at::stack({first, tiny.model.step(random_tokens(1, 2, seed + 1)[0], state)});
    };
    DecodeState used = tiny.model.start_decoding(2, 12), fresh = tiny.model.start_decoding(2, 12);
    run(used, 20);
    REQUIRE(at::equal(run(used, 30), run(fresh, 30)));
  }
}

TEST_CASE("decoding: prompts must have lengths that fit") {
  const auto tokens = random_tokens(2, 5, 1);
  REQUIRE_THROWS(make_prompts(tokens, {5}));
  REQUIRE_THROWS(make_prompts(tokens, {0, 5}));
  REQUIRE_THROWS(make_prompts(tokens, {6, 5}));
}
