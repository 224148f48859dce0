// Training batches from sources, permutations and the mixture, prepared by a thread; state of the stream.
#include "data/loader.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/logging.h"
#include "data/mixture.h"
#include "data/permutation.h"
#include "data/prefetcher.h"
#include "data/token_source.h"

namespace transxssm {

namespace {

// Global batches prepared ahead: one in the making and one ready hide a slow read behind a step.
constexpr size_t kPrefetchedBatches = 2;

// Which function maps (seed, cursor) to a window. A state saved under another one says nothing about ours.
constexpr int kOrder = 2;

// Where the stream stands between two steps.
struct Position {
  int64_t sequences = 0;
  int64_t tokens = 0;
  std::vector<int64_t> cursors;  // by source: windows given out since the first epoch began
  std::vector<int64_t> given;    // by source: what the mixture counts
};

struct Prepared {
  GlobalBatch batch;
  Position after;
};

void check_shape(const LoaderShape& shape) {
  expect_input(shape.seq_len >= 1, concat("train.seq_len: is ", shape.seq_len, "; at least 1"));
  expect(shape.rank >= 0 && shape.rank < shape.ranks, concat("rank ", shape.rank, " of ", shape.ranks));
  expect_divides(shape);
  expect_input(shape.micro_batch_size <= std::numeric_limits<int32_t>::max() / shape.seq_len,
               concat("train.micro_batch_size: ", shape.micro_batch_size, " sequences of ", shape.seq_len,
                      " tokens are more than 2^31 − 1 tokens"));
}

std::vector<WindowRange> open_sources(const DataConfig& config, const LoaderShape& shape) {
  check_shape(shape);
  expect_input(!config.train.empty(), "data.train: names no source");
  std::set<std::string> paths;
  std::vector<WindowRange> sources;
  for (const TrainSource& source : config.train) {
    expect_input(
        paths.insert(source.path).second,
        concat("data.train: ", source.path, " is there twice; give it once, with the sum of the weights"));
    sources.push_back(split_windows(source.path, shape.seq_len, config.split).first);
  }
  return sources;
}

// Without weights, a source counts as much as it has windows.
std::vector<double> mixture_weights(const DataConfig& config, const std::vector<WindowRange>& sources) {
  std::vector<double> weights;
  double sum = 0;
  for (size_t i = 0; i < sources.size(); ++i) {
    const auto& weight = config.train[i].weight;
    expect_input(weight.has_value() == config.train[0].weight.has_value(),
                 concat("data.train: ", config.train[i].path, weight ? " has" : " lacks",
                        " a weight and others don't agree; give all sources one, or none (by size)"));
    weights.push_back(weight.value_or(static_cast<double>(sources[i].count)));
    expect_input(
        weights.back() >= 0 && std::isfinite(weights.back()),
        concat("data.train: ", config.train[i].path, " has the weight ", weights.back(), "; at least 0"));
    sum += weights.back();
  }
  expect_input(sum > 0, "data.train: no source has a weight above 0");
  return weights;
}

}  // namespace

// Every rank has equally many micro-batches.
void expect_divides(const LoaderShape& shape) {
  expect_input(shape.micro_batch_size >= 1 && shape.global_batch_size >= 1 &&
                   shape.global_batch_size % shape.micro_batch_size == 0,
               concat("train.global_batch_size: ", shape.global_batch_size,
                      " is not a multiple of micro_batch_size ", shape.micro_batch_size));
  const int64_t at_once = shape.ranks * shape.micro_batch_size;
  if (shape.global_batch_size % at_once == 0) return;
  const int64_t below = shape.global_batch_size / at_once * at_once;
  const int64_t micro_batches = shape.global_batch_size / shape.micro_batch_size;
  int64_t fewer = std::min(shape.ranks, micro_batches);
  while (micro_batches % fewer != 0) --fewer;
  int64_t smaller = shape.micro_batch_size;
  while (smaller > 0 && shape.global_batch_size % (shape.ranks * smaller) != 0) --smaller;
  throw InputError(concat("train.global_batch_size: ", shape.global_batch_size,
                          " sequences can't be divided among ", shape.ranks, " ranks in micro-batches of ",
                          shape.micro_batch_size, "; nearest: global_batch_size ",
                          below > 0 ? concat(below, " or ") : "", below + at_once,
                          smaller > 0 ? concat(", micro_batch_size ", smaller) : "", ", or ", fewer,
                          fewer == 1 ? " rank" : " ranks"));
}

struct Loader::Impl {
  Impl(const DataConfig& data_config, const LoaderShape& loader_shape)
      : config(data_config),
        shape(loader_shape),
        sources(open_sources(config, shape)),
        weights(mixture_weights(config, sources)) {
    position.cursors.assign(sources.size(), 0);
    position.given.assign(sources.size(), 0);
    start();
  }

  void start();
  Prepared prepare(Position from) const;
  int64_t window_at(size_t source, int64_t cursor) const;
  Window window(size_t source, int64_t cursor) const;
  int64_t labels_of(size_t source, int64_t cursor) const;  // without reading its tokens
  nlohmann::json describe(size_t source) const;
  nlohmann::json with_moved_sources(nlohmann::json state) const;
  int64_t restored_cursor(size_t source, const nlohmann::json& saved) const;
  bool same_mixture(const nlohmann::json& saved) const;

  const DataConfig config;
  const LoaderShape shape;
  const std::vector<WindowRange> sources;
  const std::vector<double> weights;
  std::map<std::string, nlohmann::json> removed_sources;
  Position position;  // after what next() has handed out
  Position before;    // what next() handed out last
  double seconds_waited = 0;
  std::unique_ptr<Prefetcher<Prepared>> prefetcher;
};

// From `position` on. The thread has a position of its own, ahead of ours.
void Loader::Impl::start() {
  prefetcher.reset();
  prefetcher = std::make_unique<Prefetcher<Prepared>>(kPrefetchedBatches, [this, ahead = position]() mutable {
    Prepared prepared = prepare(std::move(ahead));
    ahead = prepared.after;
    return prepared;
  });
}

// In its source.
int64_t Loader::Impl::window_at(size_t source, int64_t cursor) const {
  const WindowRange& range = sources[source];
  const Permutation order(range.count,
                          epoch_key(config.seed, range.source.num_tokens(), cursor / range.count));
  return range.first + order(cursor % range.count);
}

Window Loader::Impl::window(size_t source, int64_t cursor) const {
  return sources[source].source.window(window_at(source, cursor), shape.seq_len, shape.vocab_size);
}

int64_t Loader::Impl::labels_of(size_t source, int64_t cursor) const {
  if (config.packing == Packing::concatenated) return shape.seq_len;
  const auto starts = sources[source].source.document_starts(window_at(source, cursor), shape.seq_len);
  return counted_labels(shape.seq_len, starts.size(), config.packing);
}

Prepared Loader::Impl::prepare(Position from) const {
  Mixture mixture(weights);
  mixture.restore(std::move(from.given));
  Prepared prepared;
  std::vector<Window> windows;
  const int64_t share = shape.global_batch_size / shape.ranks;
  for (int64_t sequence = 0; sequence < shape.global_batch_size; ++sequence) {
    const size_t source = mixture.next();
    const int64_t cursor = from.cursors[source]++;
    if (sequence / share != shape.rank) {
      prepared.batch.counted_labels += labels_of(source, cursor);
      continue;
    }
    windows.push_back(window(source, cursor));
    if (static_cast<int64_t>(windows.size()) < shape.micro_batch_size) continue;
    prepared.batch.micro_batches.push_back(pack(windows, config.packing));
    prepared.batch.counted_labels += prepared.batch.micro_batches.back().counted_labels;
    windows.clear();
  }
  prepared.after.sequences = from.sequences + shape.global_batch_size;
  prepared.after.tokens = from.tokens + shape.global_batch_size * shape.seq_len;
  prepared.after.cursors = std::move(from.cursors);
  prepared.after.given = mixture.given();
  return prepared;
}

// A cursor means the same windows only where all of this is equal.
nlohmann::json Loader::Impl::describe(size_t source) const {
  return {{"order", kOrder},
          {"seed", config.seed},
          {"seq_len", shape.seq_len},
          {"windows", sources[source].count},
          {"tokens", sources[source].source.num_tokens()}};
}

// The state with the present paths of sources that have moved since.
nlohmann::json Loader::Impl::with_moved_sources(nlohmann::json state) const {
  nlohmann::json& saved = state.at("sources");
  nlohmann::json& mixture = state.at("mixture");
  const auto is_given = [&](const std::string& path) {
    return std::any_of(config.train.begin(), config.train.end(),
                       [&](const TrainSource& source) { return source.path == path; });
  };
  for (size_t i = 0; i < sources.size(); ++i) {
    const std::string& path = config.train[i].path;
    if (saved.contains(path)) continue;
    for (const auto& [old_path, entry] : saved.items()) {
      if (is_given(old_path) || entry.at("stream") != describe(i)) continue;
      log_info(concat(path, ": has moved from ", old_path, " and goes on"));
      saved[path] = entry;
      if (mixture.contains(old_path)) mixture[path] = mixture[old_path];
      mixture.erase(old_path);
      saved.erase(std::string(old_path));
      break;
    }
  }
  return state;
}

int64_t Loader::Impl::restored_cursor(size_t source, const nlohmann::json& saved) const {
  const auto cursor = saved.at("cursor").get<int64_t>();
  const auto windows = saved.at("stream").at("windows").get<int64_t>();
  expect_input(cursor >= 0 && windows >= 1, "data state of the checkpoint: a cursor below 0 or no windows");
  const nlohmann::json now = describe(source);
  if (saved.at("stream") == now || cursor == 0) return cursor;
  const int64_t epoch = (cursor - 1) / windows + 1;
  log_warning(concat(config.train[source].path, ": is not the stream of the checkpoint (",
                     saved.at("stream").dump(), " then, ", now.dump(), " now); it goes on with epoch ",
                     epoch));
  return epoch * sources[source].count;
}

bool Loader::Impl::same_mixture(const nlohmann::json& saved) const {
  if (saved.size() != sources.size()) return false;
  for (size_t i = 0; i < sources.size(); ++i) {
    const auto entry = saved.find(config.train[i].path);
    if (entry == saved.end() || entry->at("weight").get<double>() != weights[i]) return false;
  }
  return true;
}

Loader::Loader(const DataConfig& config, const LoaderShape& shape)
    : impl_(std::make_unique<Impl>(config, shape)) {}
Loader::~Loader() = default;

GlobalBatch Loader::next() {
  Prepared prepared = impl_->prefetcher->next(impl_->seconds_waited);
  impl_->before = std::exchange(impl_->position, std::move(prepared.after));
  return std::move(prepared.batch);
}

void Loader::put_back() {
  expect(!impl_->before.cursors.empty(), "put_back() without a next() before it");
  impl_->position = std::exchange(impl_->before, {});
  impl_->start();
}

nlohmann::json Loader::save_state() const {
  const Impl& impl = *impl_;
  nlohmann::json sources = impl.removed_sources;
  nlohmann::json mixture = nlohmann::json::object();
  for (size_t i = 0; i < impl.sources.size(); ++i) {
    const std::string& path = impl.config.train[i].path;
    sources[path] = {{"cursor", impl.position.cursors[i]}, {"stream", impl.describe(i)}};
    mixture[path] = {{"weight", impl.weights[i]}, {"given", impl.position.given[i]}};
  }
  return {{"sequences", impl.position.sequences},
          {"tokens", impl.position.tokens},
          {"sources", std::move(sources)},
          {"mixture", std::move(mixture)}};
}

void Loader::load_state(const nlohmann::json& state) {
  Impl& impl = *impl_;
  try {
    Position position;
    position.sequences = state.at("sequences").get<int64_t>();
    position.tokens = state.at("tokens").get<int64_t>();
    const nlohmann::json moved = impl.with_moved_sources(state);
    auto saved = moved.at("sources").get<std::map<std::string, nlohmann::json>>();
    const nlohmann::json& mixture = moved.at("mixture");
    const bool same_mixture = impl.same_mixture(mixture);
    for (size_t i = 0; i < impl.sources.size(); ++i) {
      const std::string& path = impl.config.train[i].path;
      const auto entry = saved.find(path);
      position.cursors.push_back(entry == saved.end() ? 0 : impl.restored_cursor(i, entry->second));
      position.given.push_back(same_mixture ? mixture.at(path).at("given").get<int64_t>() : 0);
      if (entry != saved.end()) saved.erase(entry);
    }
    impl.removed_sources = std::move(saved);
    impl.position = std::move(position);
    impl.before = {};
  } catch (const nlohmann::json::exception& error) {
    throw InputError(concat("data state of the checkpoint: can't be understood: ", error.what()));
  }
  impl.start();
}

int64_t Loader::consumed_sequences() const { return impl_->position.sequences; }
int64_t Loader::consumed_tokens() const { return impl_->position.tokens; }
double Loader::seconds_waited() const { return impl_->seconds_waited; }

int64_t Loader::tokens_per_epoch() const {
  int64_t tokens = 0;
  for (const WindowRange& source : impl_->sources) tokens += source.count * impl_->shape.seq_len;
  return tokens;
}

}  // namespace transxssm
