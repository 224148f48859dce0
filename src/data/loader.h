// The training data stream: which windows make up step s, and what a restart needs to know.
#pragma once

#include <cstdint>
#include <memory>

#include <nlohmann/json.hpp>

#include "config/data_config.h"
#include "data/batch.h"

namespace transxssm {

struct LoaderShape {
  int64_t seq_len = 0;
  int64_t global_batch_size = 0;  // sequences a step
  int64_t micro_batch_size = 0;   // divides it
  int64_t vocab_size = 0;         // token ids are checked against it
};

// Order is a function of (data.seed, cursors) only. A window is seq_len + 1 tokens of a source; windows of an epoch are
// visited in the order of a keyed permutation, another one every epoch. Sources are mixed by weight: each sequence comes
// from the source furthest below its share. A thread prepares the next global batches.
class Loader {
 public:
  Loader(const DataConfig& config, const LoaderShape& shape);
  ~Loader();

  // The batch of the next step. Throws InputError for damaged data or a token id outside the vocabulary.
  GlobalBatch next();

  // Cursor of each source and the number of sequences given out, as of the last next(); restoring gives the same stream.
  // Weights may have changed in between: cursors are kept by source path, new sources start at 0.
  nlohmann::json save_state() const;
  void load_state(const nlohmann::json& state);

  double seconds_waited() const;  // total time next() had to wait for data
  int64_t tokens_per_epoch() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Fixed windows of a validation set, the same at any batch size: the first `sequences` windows, evenly spread.
class ValidationSet {
 public:
  ValidationSet(std::string name, const std::string& path, const DataConfig& config, const LoaderShape& shape,
                int64_t sequences);
  ~ValidationSet();
  ValidationSet(ValidationSet&&) noexcept;
  const std::string& name() const;
  int64_t num_batches() const;
  Batch batch(int64_t i) const;
  // UTF-8 bytes that the counted labels of all batches stand for; 0 when there is no tokenizer.
  int64_t counted_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace transxssm
