// Held-out data: the same windows whenever and however the model is measured.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "config/data_config.h"
#include "data/batch.h"
#include "data/loader.h"

namespace transxssm {

// Fixed windows of held-out data, evenly spread over it: `sequences` of them, or all where there are fewer.
// They depend on nothing but the data, seq_len and `sequences`.
class ValidationSet {
 public:
  // The windows of a path. `bytes_per_token` has the UTF-8 bytes of each id (0 for control tokens; ids beyond
  // its end count as 0) and is empty when there is no tokenizer. Reads the windows once: InputError for
  // missing or damaged data, no window, or an id outside the vocabulary.
  ValidationSet(std::string name, const std::string& path, const DataConfig& config, const LoaderShape& shape,
                int64_t sequences, std::span<const int32_t> bytes_per_token);
  // What data.split holds out of the training sources.
  ValidationSet(std::string name, const DataConfig& config, const LoaderShape& shape, int64_t sequences,
                std::span<const int32_t> bytes_per_token);
  ~ValidationSet();
  ValidationSet(ValidationSet&&) noexcept;

  const std::string& name() const;
  int64_t num_sequences() const;
  int64_t num_batches() const;
  // micro_batch_size sequences; the last batch has the rest.
  Batch batch(int64_t i) const;
  // Of all batches.
  int64_t counted_labels() const;
  // UTF-8 bytes that the counted labels of all batches stand for; 0 when there is no tokenizer.
  int64_t counted_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The sets of data.validation, or one named "split" when data.split is given, or none.
std::vector<ValidationSet> make_validation_sets(const DataConfig& config, const LoaderShape& shape,
                                                int64_t sequences, std::span<const int32_t> bytes_per_token);

}  // namespace transxssm
