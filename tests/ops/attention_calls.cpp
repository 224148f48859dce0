// Which calls of cuDNN attention's passes are made of: decided on the host from the shape alone.
#include "csrc_cuda/attention/document_classes.h"
#include "support/catch.h"

using namespace transxssm::kernels;

namespace {

AttentionShape shape(int64_t batch, int64_t tokens, int64_t documents, bool deterministic, int heads = 8,
                     int kv_heads = 8) {
  return {batch, tokens, documents, heads, kv_heads, 128, int64_t{heads + 2 * kv_heads} * 128, deterministic};
}

constexpr int64_t kGiB = int64_t{1} << 30;

}  // namespace

TEST_CASE("attention calls: rows of one document each are taken whole") {
  REQUIRE(attention_takes_rows(shape(8, 4096, 8, true)));
  REQUIRE(attention_takes_rows(shape(8, 4096, 8, false)));
  REQUIRE_FALSE(attention_takes_rows(shape(8, 4096, 9, true)));
  REQUIRE_FALSE(attention_takes_rows(shape(8, 1, 8, false)));
}

TEST_CASE("attention calls: a deterministic backward pass takes some rows at a time, or tables") {
  REQUIRE(rows_at_once(shape(4, 4096, 4, true, 16, 16)) == 4);
  REQUIRE(rows_at_once(shape(8, 4096, 8, true, 16, 16)) == 8);
  REQUIRE(rows_at_once(shape(16, 4096, 16, true, 16, 16)) == 8);
  REQUIRE(rows_at_once(shape(9, 4096, 9, true, 16, 16)) == 3);
  REQUIRE(rows_at_once(shape(16, 4096, 16, false, 16, 16)) == 16);
  REQUIRE(rows_at_once(shape(2, 16384, 2, true)) == 1);
  REQUIRE(attention_takes_rows(shape(2, 16384, 2, true, 16, 16)));
  REQUIRE_FALSE(attention_takes_rows(shape(2, 16384, 2, true, 17, 17)));
  REQUIRE_FALSE(attention_takes_rows(shape(1, 32768, 1, true)));
  REQUIRE(attention_takes_rows(shape(1, 32768, 1, false)));
}

TEST_CASE("attention calls: only the deterministic pass, and that with documents, keeps scores") {
  constexpr int64_t kQuery = int64_t{4} * 8 * 4096 * 8 * 128;  // dQ in f32
  REQUIRE(attention_backward_bytes(shape(8, 4096, 8, true)) == 2 * kGiB);
  REQUIRE(attention_backward_bytes(shape(8, 4096, 8, true, 16, 16)) == 4 * kGiB);
  REQUIRE(attention_backward_bytes(shape(2, 16384, 2, true)) == 4 * kGiB);
  REQUIRE(attention_backward_bytes(shape(8, 4096, 8, false)) == kQuery);
  REQUIRE(attention_backward_bytes(shape(8, 4096, 72, false)) == 2 * kGiB);
  REQUIRE(attention_backward_bytes(shape(8, 4096, 8, false, 8, 2)) == 2 * kQuery);
}

TEST_CASE("attention calls: classes of documents hold every length once and fit a call's bound") {
  for (const int64_t tokens : {512, 513, 4096, 4097, 65536}) {
    const AttentionShape s = shape(2, tokens, 40, true);
    const DocumentClasses classes = document_classes(s, AttentionPass::backward);
    int64_t longest = tokens;
    for (int i = 0; i < classes.count; ++i) {
      REQUIRE(classes.of[i].longest == longest);
      REQUIRE(classes.of[i].capacity * (classes.of[i].shorter + 1) <= 2 * tokens + 40);
      longest = classes.of[i].shorter;
    }
    REQUIRE(longest == 0);
    REQUIRE(document_classes(s, AttentionPass::forward).count == 1);
  }
}
