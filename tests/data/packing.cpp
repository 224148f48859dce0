// Packing: labels and document offsets on documents made by hand.
#include "data/packing.h"

#include "support/catch.h"

using namespace transxssm;

using Tokens = std::vector<int64_t>;
using Offsets = std::vector<int32_t>;

namespace {

// Offsets without the empty documents at the end, which must all be [B·T, B·T).
Offsets used(const Batch& batch) {
  Offsets offsets = batch.document_offsets;
  const auto end = static_cast<int32_t>(batch.batch * batch.seq_len);
  REQUIRE(offsets.back() == end);
  while (offsets.size() > 1 && offsets[offsets.size() - 2] == end) offsets.pop_back();
  return offsets;
}

}  // namespace

TEST_CASE("packing: a window inside one document is that document") {
  const Batch batch = pack({{{1, 2, 3, 4, 5}, {}}}, Packing::isolated);
  CHECK(batch.batch == 1);
  CHECK(batch.seq_len == 4);
  CHECK(batch.tokens == Tokens{1, 2, 3, 4});
  CHECK(batch.labels == Tokens{2, 3, 4, 5});
  CHECK(used(batch) == Offsets{0, 4});
  CHECK(batch.counted_labels == 4);
}

TEST_CASE("packing isolated: the label after a document's last token is not counted") {
  const Batch batch = pack({{{1, 2, 3, 4, 5, 6}, {2}}}, Packing::isolated);
  CHECK(batch.labels == Tokens{2, -1, 4, 5, 6});
  CHECK(used(batch) == Offsets{0, 2, 5});
  CHECK(batch.counted_labels == 4);
}

TEST_CASE("packing isolated: documents of one token have no counted label") {
  const Batch batch = pack({{{1, 2, 3, 4, 5, 6}, {1, 2, 3}}}, Packing::isolated);
  CHECK(batch.labels == Tokens{-1, -1, -1, 5, 6});
  CHECK(used(batch) == Offsets{0, 1, 2, 3, 5});
  CHECK(batch.counted_labels == 2);
}

TEST_CASE("packing isolated: a document that ends with the window loses only its last label") {
  const Batch batch = pack({{{1, 2, 3, 4}, {3}}, {{5, 6, 7, 8}, {2, 3}}}, Packing::isolated);
  CHECK(batch.labels == Tokens{2, 3, -1, 6, -1, -1});
  CHECK(used(batch) == Offsets{0, 3, 5, 6});
  CHECK(batch.counted_labels == 3);
}

TEST_CASE("packing isolated: rows start documents, and the offsets run over all rows") {
  const Batch batch = pack({{{1, 2, 3}, {}}, {{3, 4, 5}, {1}}, {{5, 6, 7}, {1, 2}}}, Packing::isolated);
  CHECK(batch.tokens == Tokens{1, 2, 3, 4, 5, 6});
  CHECK(batch.labels == Tokens{2, 3, -1, 5, -1, -1});
  CHECK(used(batch) == Offsets{0, 2, 3, 4, 5, 6});
  CHECK(batch.counted_labels == 3);
}

TEST_CASE("packing concatenated: a row is one document and every label counts") {
  const Batch batch = pack({{{1, 2, 3}, {1}}, {{3, 4, 5}, {1, 2}}}, Packing::concatenated);
  CHECK(batch.labels == Tokens{2, 3, 4, 5});
  CHECK(batch.document_offsets == Offsets{0, 2, 4});
  CHECK(batch.counted_labels == 4);
}

TEST_CASE("packing: the offsets' capacity is fixed for usual documents and never too small") {
  const auto capacity = [](int64_t documents) {
    return document_capacity(2, 1024, Packing::isolated, documents);
  };
  CHECK(capacity(2) == 6);
  CHECK(capacity(6) == 6);
  CHECK(capacity(7) == 12);
  CHECK(capacity(13) == 24);
  CHECK(capacity(1500) == 1536);
  CHECK(capacity(1537) == 2048);
  CHECK(capacity(2048) == 2048);
  CHECK(document_capacity(5, 1024, Packing::concatenated, 5) == 5);
  CHECK(document_capacity(1, 1, Packing::isolated, 1) == 1);

  // Every token its own document.
  Window window;
  for (int32_t t = 0; t <= 300; ++t) window.tokens.push_back(t);
  for (int64_t t = 1; t <= 300; ++t) window.document_starts.push_back(t);
  const Batch batch = pack({window}, Packing::isolated);
  CHECK(batch.document_offsets.size() == 301);
  CHECK(batch.counted_labels == 0);
}

TEST_CASE("packing: starts out of order or outside the window are a bug") {
  CHECK_THROWS(pack({{{1, 2, 3}, {0}}}, Packing::isolated));
  CHECK_THROWS(pack({{{1, 2, 3}, {3}}}, Packing::isolated));
  CHECK_THROWS(pack({{{1, 2, 3}, {2, 1}}}, Packing::isolated));
  CHECK_THROWS(pack({}, Packing::isolated));
}
