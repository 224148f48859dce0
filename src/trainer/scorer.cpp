#include "trainer/scorer.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include "core/check.h"
#include "data/packing.h"
#include "trainer/device_batch.h"
#include "trainer/pending_copy.h"

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

// Texts that wait, by the tokens that the model reads of them.
class WaitingTexts {
 public:
  explicit WaitingTexts(const std::vector<ScoredText>& texts) {
    for (size_t i = 0; i < texts.size(); ++i) by_length_.insert({read_tokens(texts[i]), i});
  }
  bool empty() const { return by_length_.empty(); }
  int64_t longest() const { return by_length_.rbegin()->first; }

  // The longest of at most `tokens`.
  std::optional<size_t> take(int64_t tokens) {
    const auto after = by_length_.upper_bound({tokens, std::numeric_limits<size_t>::max()});
    if (after == by_length_.begin()) return std::nullopt;
    return by_length_.extract(std::prev(after)).value().second;
  }

 private:
  std::set<std::pair<int64_t, size_t>> by_length_;
};

// Each row takes the longest text that still fits, again and again (best fit: of 1 500 documents of web text
// in rows of 4096 tokens, 2 % remain free; 22 % when rows are filled in order of length). What stays free at
// the end of a row is a document of its own.
PackedTexts pack_texts(const std::vector<ScoredText>& texts, WaitingTexts& waiting, int64_t longest_row,
                       int64_t batch_tokens, bool whole_batches) {
  PackedTexts packed;
  Batch& batch = packed.batch;
  batch.seq_len = row_length(waiting.longest(), longest_row);
  const int64_t most_rows = std::max<int64_t>(1, batch_tokens / batch.seq_len);
  batch.tokens.resize(most_rows * batch.seq_len);
  for (; batch.batch < most_rows && (whole_batches || !waiting.empty()); ++batch.batch) {
    int64_t next = batch.batch * batch.seq_len;
    const int64_t end = next + batch.seq_len;
    while (const auto index = waiting.take(end - next)) {
      place(texts[*index], *index, next, packed);
      next += read_tokens(texts[*index]);
    }
    if (next < end) batch.document_offsets.push_back(static_cast<int32_t>(next));
  }
  batch.tokens.resize(batch.batch * batch.seq_len);
  batch.labels.resize(batch.tokens.size(), -1);
  const auto documents = static_cast<int64_t>(batch.document_offsets.size());
  batch.document_offsets.resize(
      document_capacity(batch.batch, batch.seq_len, Packing::isolated, documents) + 1,
      static_cast<int32_t>(batch.tokens.size()));
  return packed;
}

at::Tensor on_device(const std::vector<int64_t>& values, at::Device device) {
  const at::Tensor host = at::tensor(values, at::kLong);
  return device.is_cuda() ? host.pin_memory().to(device, /*non_blocking=*/true) : host;
}

// A batch that is being scored.
struct QueuedTexts {
  std::vector<PlacedText> placed;
  PendingCopy losses, greedy;
};

// One batch for each rank, as far as there are texts.
struct Round {
  size_t texts = 0;  // of all ranks
  std::optional<QueuedTexts> own;
};

QueuedTexts queue(const HybridModel& model, const PackedTexts& packed) {
  const DeviceBatch in = to_device(packed.batch, model.device());
  const at::Tensor labels = on_device(packed.labels, model.device());
  const auto scores =
      model.token_scores(in.tokens_bt, in.documents, on_device(packed.places, model.device()), labels);
  return {packed.placed, PendingCopy(scores.losses.to(at::kFloat)),
          PendingCopy(scores.likely.eq(labels).to(at::kChar))};
}

void visit_scores(const std::vector<ScoredText>& texts, const QueuedTexts& queued, const VisitScores& visit) {
  const float* loss = queued.losses.wait().const_data_ptr<float>();
  const char* is_greedy = reinterpret_cast<const char*>(queued.greedy.wait().const_data_ptr<int8_t>());
  for (const PlacedText& text : queued.placed) {
    const size_t count = texts[text.index].tokens.size() - static_cast<size_t>(texts[text.index].scored_from);
    visit(text.index, {loss, count}, {is_greedy, count});
    loss += count;
    is_greedy += count;
  }
}

Round queue_round(const HybridModel& model, const std::vector<ScoredText>& texts, WaitingTexts& waiting,
                  int64_t batch_tokens, const Mesh& mesh) {
  // On a GPU each new shape costs the choice of products and plans; a CPU has neither.
  const bool whole_batches = model.device().is_cuda();
  Round round;
  for (int rank = 0; rank < mesh.size() && !waiting.empty(); ++rank) {
    const PackedTexts packed = pack_texts(texts, waiting, model.max_positions(), batch_tokens, whole_batches);
    round.texts += packed.placed.size();
    if (rank == mesh.rank()) round.own = queue(model, packed);
  }
  if (!round.own) model.skip_pass();
  return round;
}

// Every text was scored by one rank, and has zeros on the others: sums are exact.
void gather(std::vector<ContinuationScore>& scores, const Mesh& mesh, at::Device device) {
  if (mesh.size() == 1) return;
  const auto count = static_cast<int64_t>(scores.size());
  const at::Tensor host = at::empty({2 * count}, at::kDouble);
  double* values = host.mutable_data_ptr<double>();
  for (int64_t i = 0; i < count; ++i) {
    values[2 * i] = scores[static_cast<size_t>(i)].log_likelihood;
    values[2 * i + 1] = scores[static_cast<size_t>(i)].greedy;
  }
  const at::Tensor sum = host.to(device);
  mesh.all_reduce(sum);
  const at::Tensor all = sum.cpu();
  values = all.mutable_data_ptr<double>();
  for (int64_t i = 0; i < count; ++i) scores[static_cast<size_t>(i)] = {values[2 * i], values[2 * i + 1] > 0};
}

}  // namespace

void score_texts(const HybridModel& model, const std::vector<ScoredText>& texts, int64_t batch_tokens,
                 const Mesh& mesh, const VisitScores& visit, const std::function<bool(size_t)>& done) {
  const at::NoGradGuard no_grad;
  for (const ScoredText& text : texts) {
    expect(text.scored_from >= 1 && text.scored_from < static_cast<int64_t>(text.tokens.size()),
           concat("a text of ", text.tokens.size(), " tokens can't be scored from ", text.scored_from));
    expect(read_tokens(text) <= model.max_positions(),
           concat("a text of ", text.tokens.size(), " tokens for a model of ", model.max_positions()));
  }
  WaitingTexts waiting(texts);
  std::optional<Round> last;  // read when the next round is queued, so that a GPU has work meanwhile
  while (last || !waiting.empty()) {
    std::optional<Round> next;
    if (!waiting.empty()) next = queue_round(model, texts, waiting, batch_tokens, mesh);
    if (last) {
      if (last->own) visit_scores(texts, *last->own, visit);
      if (!done(last->texts)) return;
    }
    last = std::move(next);
  }
}

std::vector<ContinuationScore> score_continuations(const HybridModel& model,
                                                   const std::vector<ScoredText>& texts, int64_t batch_tokens,
                                                   const Mesh& mesh,
                                                   const std::function<bool(size_t)>& go_on) {
  std::vector<ContinuationScore> out(texts.size());
  bool stopped = false;
  score_texts(
      model, texts, batch_tokens, mesh,
      [&](size_t index, std::span<const float> losses, std::span<const char> greedy) {
        for (const float loss : losses) out[index].log_likelihood -= static_cast<double>(loss);
        out[index].greedy = std::all_of(greedy.begin(), greedy.end(), [](char g) { return g != 0; });
      },
      [&](size_t count) { return !(stopped = !go_on(count)); });
  if (stopped) return {};
  gather(out, mesh, model.device());
  return out;
}

}  // namespace transxssm
