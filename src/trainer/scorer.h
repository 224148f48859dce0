// How likely a model finds given tokens of many texts.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "eval/scoring.h"
#include "model/hybrid_model.h"

namespace transxssm {

// −log p of each scored token of text `index`, and whether it is the most likely one.
using VisitScores =
    std::function<void(size_t index, std::span<const float> losses, std::span<const char> greedy)>;

// Texts share batches: rows of the same number of tokens, a power of two or all that the model can read at
// once, that hold as many texts as fit, the longest first, each a document. Neighbours change nothing but
// rounding. `batch_tokens`: of a batch, or of its only text where that is longer. `visit` is called in any
// order, `done` after each batch with the number of texts in it; when it returns false, scoring ends.
void score_texts(const HybridModel& model, const std::vector<ScoredText>& texts, int64_t batch_tokens,
                 const VisitScores& visit, const std::function<bool(size_t)>& done);

// Of all continuations, in order; empty when `go_on` said no.
std::vector<ContinuationScore> score_continuations(const HybridModel& model,
                                                   const std::vector<ScoredText>& texts, int64_t batch_tokens,
                                                   const std::function<bool(size_t)>& go_on);

}  // namespace transxssm
