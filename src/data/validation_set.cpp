// Choice of the fixed windows of a validation set and what they count.
#include "data/validation_set.h"

#include <algorithm>

#include "core/check.h"
#include "data/token_source.h"

namespace transxssm {

struct ValidationSet::Impl {
  Impl(std::string set_name, std::vector<WindowRange> set_ranges, Packing set_packing,
       const LoaderShape& set_shape, int64_t sequences, std::span<const int32_t> bytes_per_token);

  Window window(int64_t sequence) const;
  Batch batch(int64_t i) const;
  int64_t num_batches() const {
    return (num_sequences + shape.micro_batch_size - 1) / shape.micro_batch_size;
  }

  std::string name;
  std::vector<WindowRange> ranges;
  Packing packing;
  LoaderShape shape;
  int64_t num_windows = 0;
  int64_t num_sequences = 0;
  int64_t counted_labels = 0;
  int64_t counted_bytes = 0;
};

ValidationSet::Impl::Impl(std::string set_name, std::vector<WindowRange> set_ranges, Packing set_packing,
                          const LoaderShape& set_shape, int64_t sequences,
                          std::span<const int32_t> bytes_per_token)
    : name(std::move(set_name)), ranges(std::move(set_ranges)), packing(set_packing), shape(set_shape) {
  expect_input(sequences >= 1, concat("validation.sequences: is ", sequences, "; at least 1"));
  expect_input(shape.micro_batch_size >= 1,
               concat("train.micro_batch_size: is ", shape.micro_batch_size, "; at least 1"));
  for (const WindowRange& range : ranges) num_windows += range.count;
  num_sequences = std::min(sequences, num_windows);
  const auto known_ids = static_cast<int64_t>(bytes_per_token.size());
  for (int64_t i = 0; i < num_batches(); ++i) {
    const Batch counted = batch(i);
    counted_labels += counted.counted_labels;
    for (const int64_t label : counted.labels) {
      if (label >= 0 && label < known_ids) counted_bytes += bytes_per_token[static_cast<size_t>(label)];
    }
  }
}

Window ValidationSet::Impl::window(int64_t sequence) const {
  // Sequence s of S is window ⌊s·W / S⌋ of W, all ranges counted through; formed without the product s·W.
  const int64_t whole = num_windows / num_sequences;
  const int64_t rest = num_windows % num_sequences;
  int64_t index = sequence * whole + sequence * rest / num_sequences;
  for (const WindowRange& range : ranges) {
    if (index < range.count) return range.source.window(range.first + index, shape.seq_len, shape.vocab_size);
    index -= range.count;
  }
  expect(false, concat("no sequence ", sequence, " in validation set ", name));
  return {};
}

Batch ValidationSet::Impl::batch(int64_t i) const {
  expect(i >= 0 && i < num_batches(), concat("no batch ", i, " in validation set ", name));
  std::vector<Window> windows;
  const int64_t begin = i * shape.micro_batch_size;
  const int64_t end = std::min(begin + shape.micro_batch_size, num_sequences);
  for (int64_t sequence = begin; sequence < end; ++sequence) windows.push_back(window(sequence));
  return pack(windows, packing);
}

namespace {

std::vector<WindowRange> held_out_windows(const DataConfig& config, const LoaderShape& shape) {
  expect_input(!config.split.empty(), "data.split: is not given, so nothing is held out");
  std::vector<WindowRange> ranges;
  for (const TrainSource& source : config.train) {
    ranges.push_back(split_windows(source.path, shape.seq_len, config.split).second);
  }
  return ranges;
}

}  // namespace

ValidationSet::ValidationSet(std::string name, const std::string& path, const DataConfig& config,
                             const LoaderShape& shape, int64_t sequences,
                             std::span<const int32_t> bytes_per_token)
    : impl_(std::make_unique<Impl>(std::move(name), std::vector{split_windows(path, shape.seq_len, {}).first},
                                   config.packing, shape, sequences, bytes_per_token)) {}

ValidationSet::ValidationSet(std::string name, const DataConfig& config, const LoaderShape& shape,
                             int64_t sequences, std::span<const int32_t> bytes_per_token)
    : impl_(std::make_unique<Impl>(std::move(name), held_out_windows(config, shape), config.packing, shape,
                                   sequences, bytes_per_token)) {}

ValidationSet::~ValidationSet() = default;
ValidationSet::ValidationSet(ValidationSet&&) noexcept = default;

const std::string& ValidationSet::name() const { return impl_->name; }
int64_t ValidationSet::num_sequences() const { return impl_->num_sequences; }
int64_t ValidationSet::num_batches() const { return impl_->num_batches(); }
Batch ValidationSet::batch(int64_t i) const { return impl_->batch(i); }
int64_t ValidationSet::counted_labels() const { return impl_->counted_labels; }
int64_t ValidationSet::counted_bytes() const { return impl_->counted_bytes; }

std::vector<ValidationSet> make_validation_sets(const DataConfig& config, const LoaderShape& shape,
                                                int64_t sequences, std::span<const int32_t> bytes_per_token) {
  std::vector<ValidationSet> sets;
  for (const ValidationSource& source : config.validation) {
    sets.emplace_back(source.name, source.path, config, shape, sequences, bytes_per_token);
  }
  if (!config.split.empty()) sets.emplace_back("split", config, shape, sequences, bytes_per_token);
  return sets;
}

}  // namespace transxssm
