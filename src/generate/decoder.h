// Rows that decode together: prompts in one pass, then a token of every row at a time.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "model/hybrid_model.h"
#include "model/sampler.h"
#include "trainer/pending_copy.h"
#include "trainer/repeated_work.h"

namespace transxssm {

struct DecoderOptions {
  int64_t batch = 1;           // rows
  int64_t capacity = 0;        // tokens of a row, prompt included
  int64_t max_new_tokens = 0;  // drawn after a prompt
  int64_t vocab_size = 0;      // ids from here on are padding of the model's vocabulary and are never drawn
  SamplingOptions sampling;
};

// What a row begins with. Its draws depend on nothing but its logits and `seed`.
struct DecodeRequest {
  std::vector<int64_t> prompt;  // at least one token
  uint64_t seed = 1;
};

// On a GPU a step is a CUDA graph, made at the second step and replayed for every later one, also of other
// prompts.
class Decoder {
 public:
  Decoder(const HybridModel& model, const DecoderOptions& options);  // the model outlives it

  // Rows begin anew, at most as many as the batch has. Draws the first token after each prompt.
  void start(const std::vector<DecodeRequest>& requests);
  // Queues one more token of every row. At most max_new_tokens after a start, the first included.
  void step();
  // Tokens by row of the earliest draw that has not been asked for; waits for it alone.
  std::vector<int64_t> tokens();
  // Whether the device goes on with the next step while the host looks at the tokens before.
  bool runs_ahead() const { return pool_ != nullptr; }

 private:
  void draw(const at::Tensor& logits_bv);

  const HybridModel& model_;
  DecoderOptions options_;
  DecodeState state_;
  at::Tensor tokens_b_;     // i64, drawn last
  at::Tensor uniforms_nb_;  // f64: number n of each row's stream
  at::Tensor drawn_;        // i64 [1]: draws since the start
  int64_t steps_ = 0;
  std::deque<PendingCopy> untaken_;
  std::unique_ptr<GraphPool> pool_;  // on a GPU
  RepeatedWork work_;
};

}  // namespace transxssm
