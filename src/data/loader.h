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
  int64_t rank = 0;               // which share of each global batch is read here,
  int64_t ranks = 1;              // of so many; with the micro-batch size, they divide the global batch
};

// InputError where the batch sizes don't fit each other or the ranks, with the nearest that do.
void expect_divides(const LoaderShape& shape);

// Order is a function of (data.seed, cursors) only, not of where the data lies. A window is seq_len + 1
// tokens of a source; windows of an epoch are visited in the order of a keyed permutation, another one every
// epoch. Sources are mixed by weight: each sequence comes from the source furthest below its share. A thread
// prepares the next global batches.
//
// Neither the micro-batch size nor the number of ranks changes the sequences of a step, their order or the
// saved state: row r of micro-batch m is sequence m · micro_batch_size + r of the rank's share, and shares
// are consecutive. Of other ranks' sequences only the documents' index is read, for the step's number of
// labels.
class Loader {
 public:
  // InputError for missing or damaged data, a source without a single window, unusable weights, or a global
  // batch that can't be divided.
  Loader(const DataConfig& config, const LoaderShape& shape);
  ~Loader();

  // This rank's share of the next step, with the labels counted in all of it. Throws InputError for damaged
  // data or a token id outside the vocabulary.
  GlobalBatch next();

  // The batch of the last next() was not used: it comes again. Once for each next().
  void put_back();

  // Cursor of each source and what was given out, as of the last next(); restoring gives the same stream.
  // Cursors are kept by source path: weights may have changed in between (the mixture then counts its shares
  // from here on), new sources start at 0, removed ones stay in the state. A source under a new path that is
  // the stream of a path no longer given has moved, and goes on. A source whose windows are not the same as
  // when the state was saved (other data, seq_len, split or seed) goes on with its next epoch, with a
  // warning.
  nlohmann::json save_state() const;
  void load_state(const nlohmann::json& state);

  // Given out by next() so far, over all resumes.
  int64_t consumed_sequences() const;
  int64_t consumed_tokens() const;  // seq_len for each sequence

  double seconds_waited() const;     // total time next() had to wait for data
  int64_t tokens_per_epoch() const;  // of all sources

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace transxssm
