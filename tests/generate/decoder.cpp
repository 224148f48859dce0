// Promises of the decoder: fewer requests than rows, other prompts later on, limits.
#include "generate/decoder.h"

#include <algorithm>

#include "generate/run_batch.h"
#include "support/catch.h"
#include "support/require_error.h"
#include "support/tiny_model.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

RowRequest request(int64_t length, uint64_t seed, int64_t max_new_tokens) {
  const auto ids = random_tokens(1, length, seed);
  return {{{ids.const_data_ptr<int64_t>(), ids.const_data_ptr<int64_t>() + length}, seed}, max_new_tokens};
}

struct Drawn {
  std::vector<std::vector<int64_t>> tokens;
  std::vector<Finish> ends;
};

Drawn run(Decoder& decoder, const std::vector<RowRequest>& rows, int64_t eos_id = -1) {
  Drawn out{std::vector<std::vector<int64_t>>(rows.size()), {}};
  out.ends = run_batch(decoder, rows, eos_id, [&](size_t row, int64_t token) {
    out.tokens[row].push_back(token);
    return true;
  });
  return out;
}

}  // namespace

TEST_CASE("decoder: rows end by themselves, and a row draws the same with any neighbours, before and after") {
  for (const auto& name : architectures()) {
    CAPTURE(name);
    TinyModel tiny(tiny_config(name));
    Decoder three(tiny.model, {3, 60, 20, 61, {.temperature = 1}});
    Decoder one(tiny.model, {1, 60, 20, 61, {.temperature = 1}});
    const std::vector<RowRequest> rows{request(17, 1, 20), request(5, 2, 7), request(33, 3, 1)};
    const Drawn together = run(three, rows);
    for (size_t row = 0; row < rows.size(); ++row) {
      REQUIRE(together.ends[row] == Finish::length);
      REQUIRE(static_cast<int64_t>(together.tokens[row].size()) == rows[row].max_new_tokens);
      REQUIRE(run(one, {rows[row]}).tokens[0] == together.tokens[row]);
      REQUIRE(run(three, {rows[row]}).tokens[0] == together.tokens[row]);
    }
  }
}

TEST_CASE("decoder: a row ends at the end-of-document token, which is not handed on") {
  TinyModel tiny(tiny_config("transxssm"));
  Decoder decoder(tiny.model, {1, 60, 20, 61, {.temperature = 1}});
  const auto whole = run(decoder, {request(9, 4, 20)}).tokens[0];
  const int64_t eos = whole[7];
  const Drawn cut = run(decoder, {request(9, 4, 20)}, eos);
  REQUIRE(cut.ends[0] == Finish::eos);
  REQUIRE(cut.tokens[0] == std::vector<int64_t>(whole.begin(), std::find(whole.begin(), whole.end(), eos)));
}

TEST_CASE("decoder: ids that stand for nothing are never drawn") {
  TinyModel tiny(tiny_config("transformer"));
  Decoder decoder(tiny.model, {1, 240, 200, 9, {.temperature = 100}});
  const Drawn drawn = run(decoder, {request(9, 4, 200)});
  for (const int64_t token : drawn.tokens[0]) REQUIRE(token < 9);
}

TEST_CASE("decoder: more than was asked for is refused") {
  TinyModel tiny(tiny_config("transxssm"));
  Decoder decoder(tiny.model, {1, 10, 3, 61, {.temperature = 0}});
  require_error([&] { decoder.start({request(9, 1, 1).decode}); }, "exceed the capacity of 10");
  decoder.start({request(8, 1, 1).decode});
  decoder.step();
  decoder.step();
  require_error([&] { decoder.step(); }, "3 tokens have been drawn");
  require_error([&] { decoder.start({}); }, "expected 1 to 1 requests, got 0");
}
