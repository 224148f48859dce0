#include "trainer/scorer.h"

#include <algorithm>
#include <numeric>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>

#include "core/check.h"
#include "data/packing.h"
#include "trainer/device_batch.h"

namespace transxssm {
namespace {

constexpr int64_t kShortestRow = 64;

// The model reads all tokens but the last.
int64_t read_tokens(const ScoredText& text) { return static_cast<int64_t>(text.tokens.size()) - 1; }

int64_t row_length(int64_t tokens, int64_t most) {
  int64_t length = kShortestRow;
  while (length < tokens) length *= 2;
  return std::min(length, most);
}

struct PlacedText {
  size_t index;
  int64_t begin;  // in the flattened batch
};

struct PackedTexts {
  Batch batch;
  std::vector<PlacedText> placed;
  std::vector<int64_t> places, labels;  // of scored tokens, text after text
};

void place(const ScoredText& text, size_t index, int64_t begin, PackedTexts& packed) {
  packed.batch.document_offsets.push_back(static_cast<int32_t>(begin));
  packed.placed.push_back({index, begin});
  std::copy(text.tokens.begin(), text.tokens.end() - 1, packed.batch.tokens.begin() + begin);
  for (size_t t = static_cast<size_t>(text.scored_from); t < text.tokens.size(); ++t) {
    packed.places.push_back(begin + static_cast<int64_t>(t) - 1);
    packed.labels.push_back(text.tokens[t]);
  }
}

// Takes texts from order[next] on, the longest first, until a row more would be too much. What stays free at
// the end of a row is a document of its own.
PackedTexts pack_texts(const std::vector<ScoredText>& texts, const std::vector<size_t>& order, size_t& next,
                       int64_t longest_row, int64_t batch_tokens, bool whole_batches) {
  PackedTexts packed;
  Batch& batch = packed.batch;
  batch.seq_len = row_length(read_tokens(texts[order[next]]), longest_row);
  const int64_t most_rows = std::max<int64_t>(1, batch_tokens / batch.seq_len);
  batch.tokens.resize(most_rows * batch.seq_len);
  int64_t row = 0, used = 0;
  for (; next < order.size(); ++next) {
    const ScoredText& text = texts[order[next]];
    if (used + read_tokens(text) > batch.seq_len) {
      if (row + 1 == most_rows) break;
      if (used < batch.seq_len)
        batch.document_offsets.push_back(static_cast<int32_t>(row * batch.seq_len + used));
      ++row;
      used = 0;
    }
    place(text, order[next], row * batch.seq_len + used, packed);
    used += read_tokens(text);
  }
  const int64_t rows = whole_batches ? most_rows : row + 1;
  if (used < batch.seq_len)
    batch.document_offsets.push_back(static_cast<int32_t>(row * batch.seq_len + used));
  for (++row; row < rows; ++row) batch.document_offsets.push_back(static_cast<int32_t>(row * batch.seq_len));
  batch.batch = rows;
  batch.tokens.resize(rows * batch.seq_len);
  batch.labels.resize(batch.tokens.size(), -1);
  const auto documents = static_cast<int64_t>(batch.document_offsets.size());
  batch.document_offsets.resize(document_capacity(rows, batch.seq_len, Packing::isolated, documents) + 1,
                                static_cast<int32_t>(batch.tokens.size()));
  return packed;
}

void score_batch(const HybridModel& model, const std::vector<ScoredText>& texts, const PackedTexts& packed,
                 const VisitScores& visit) {
  const DeviceBatch in = to_device(packed.batch, model.device());
  const at::Tensor labels = at::tensor(packed.labels, at::kLong).to(model.device());
  const auto scores = model.token_scores(in.tokens_bt, in.documents,
                                         at::tensor(packed.places, at::kLong).to(model.device()), labels);
  const at::Tensor losses = scores.losses.to(at::kFloat).cpu();
  const at::Tensor greedy = scores.likely.eq(labels).to(at::kChar).cpu();
  const float* loss = losses.const_data_ptr<float>();
  const char* is_greedy = reinterpret_cast<const char*>(greedy.const_data_ptr<int8_t>());
  for (const PlacedText& text : packed.placed) {
    const size_t count = texts[text.index].tokens.size() - static_cast<size_t>(texts[text.index].scored_from);
    visit(text.index, {loss, count}, {is_greedy, count});
    loss += count;
    is_greedy += count;
  }
}

}  // namespace

void score_texts(const HybridModel& model, const std::vector<ScoredText>& texts, int64_t batch_tokens,
                 const VisitScores& visit, const std::function<bool(size_t)>& done) {
  const at::NoGradGuard no_grad;
  std::vector<size_t> order(texts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  for (const ScoredText& text : texts) {
    expect(text.scored_from >= 1 && text.scored_from < static_cast<int64_t>(text.tokens.size()),
           concat("a text of ", text.tokens.size(), " tokens can't be scored from ", text.scored_from));
    expect(read_tokens(text) <= model.max_positions(),
           concat("a text of ", text.tokens.size(), " tokens for a model of ", model.max_positions()));
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return texts[a].tokens.size() > texts[b].tokens.size(); });
  // On a GPU each new shape costs the choice of products and plans; a CPU has neither.
  const bool whole_batches = model.device().is_cuda();
  for (size_t next = 0; next < order.size();) {
    const PackedTexts packed =
        pack_texts(texts, order, next, model.max_positions(), batch_tokens, whole_batches);
    score_batch(model, texts, packed, visit);
    if (!done(packed.placed.size())) return;
  }
}

std::vector<ContinuationScore> score_continuations(const HybridModel& model,
                                                   const std::vector<ScoredText>& texts, int64_t batch_tokens,
                                                   const std::function<bool(size_t)>& go_on) {
  std::vector<ContinuationScore> out(texts.size());
  bool stopped = false;
  score_texts(
      model, texts, batch_tokens,
      [&](size_t index, std::span<const float> losses, std::span<const char> greedy) {
        for (const float loss : losses) out[index].log_likelihood -= static_cast<double>(loss);
        out[index].greedy = std::all_of(greedy.begin(), greedy.end(), [](char g) { return g != 0; });
      },
      [&](size_t count) { return !(stopped = !go_on(count)); });
  if (stopped) out.clear();
  return out;
}

}  // namespace transxssm
