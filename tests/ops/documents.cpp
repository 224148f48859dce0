// Document ids and positions.
#include "ops/documents.h"

#include <ATen/ops/tensor.h>

#include "support/catch.h"
#include "support/compare.h"
#include "support/require_error.h"

using namespace transxssm;

namespace {

at::Tensor i32(const std::vector<int32_t>& values) { return at::tensor(values, at::TensorOptions(at::kInt)); }
at::Tensor i64(const std::vector<int64_t>& values) {
  return at::tensor(values, at::TensorOptions(at::kLong));
}

}  // namespace

TEST_CASE("documents: ids and positions follow the offsets, spare entries are ignored", "[ops]") {
  // Row 0: documents of 1, 3 and 1 tokens; row 1: one of 5.
  const ops::Documents docs = ops::make_documents(i32({0, 1, 4, 5, 10, 10, 10}), 2, 5);
  REQUIRE(same_bits(docs.ids, i32({0, 1, 1, 1, 2, 3, 3, 3, 3, 3}).view({2, 5})));
  REQUIRE(same_bits(docs.positions, i64({0, 0, 1, 2, 0, 0, 1, 2, 3, 4}).view({2, 5})));
  REQUIRE(docs.batch == 2);
  REQUIRE(docs.seq_len == 5);
}

TEST_CASE("documents: an empty document in the middle holds no token", "[ops]") {
  const ops::Documents docs = ops::make_documents(i32({0, 2, 2, 3}), 1, 3);
  REQUIRE(same_bits(docs.ids, i32({0, 0, 2}).view({1, 3})));
  REQUIRE(same_bits(docs.positions, i64({0, 1, 0}).view({1, 3})));
}

TEST_CASE("documents: one per row equals the same offsets", "[ops]") {
  const ops::Documents rows = ops::one_document_per_row(3, 4, at::kCPU);
  const ops::Documents made = ops::make_documents(rows.offsets, 3, 4);
  REQUIRE(same_bits(rows.offsets, i32({0, 4, 8, 12})));
  REQUIRE(same_bits(rows.ids, made.ids));
  REQUIRE(same_bits(rows.positions, made.positions));
}

TEST_CASE("documents: positions of a continued sequence start where it goes on", "[ops]") {
  const ops::Documents docs = ops::one_document_per_row(2, 3, at::kCPU, 17);
  REQUIRE(same_bits(docs.positions, i64({17, 18, 19, 17, 18, 19}).view({2, 3})));
}

TEST_CASE("documents: offsets that don't cover the tokens are refused", "[ops]") {
  REQUIRE_THROWS(ops::make_documents(i32({0, 9}), 2, 5));
  REQUIRE_THROWS(ops::make_documents(i32({1, 10}), 2, 5));
  REQUIRE_THROWS(ops::make_documents(i32({0, 6, 5, 10}), 2, 5));
  REQUIRE_THROWS(ops::make_documents(i64({0, 10}), 2, 5));
  require_error(
      [] {
        ops::make_documents(i32({0, 3, 10}), 2, 5);
      },
      "within rows of 5 tokens, got one from 3 to 10");
  require_error([] { ops::check_document_offsets({3}, 1, 3); },
                "document offsets: expected at least 2, got 1");
}
