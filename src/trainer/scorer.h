// How likely a model finds given tokens of many texts.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "eval/scoring.h"
#include "model/hybrid_model.h"
#include "parallel/mesh.h"

namespace transxssm {

// −log p of each scored token of text `index`, and whether it is the most likely one.
using VisitScores =
    std::function<void(size_t index, std::span<const float> losses, std::span<const char> greedy)>;

// Texts share batches: rows of the same number of tokens, a power of two or all that the model can read at
// once, that hold as many texts as fit, the longest first, each a document. Neighbours change nothing but
// rounding. `batch_tokens`: of a batch, or of its only text where that is longer. The ranks take turns with
// the batches, which are the same for any number of them. `visit` is called in any order, for the texts of
// this rank's batches; `done` on all ranks together after each round of batches, with the number of texts in
// it: when it returns false, scoring ends.
void score_texts(const HybridModel& model, const std::vector<ScoredText>& texts, int64_t batch_tokens,
                 const Mesh& mesh, const VisitScores& visit, const std::function<bool(size_t)>& done);

// Of all continuations, in order, equal on all ranks; empty when `go_on` said no.
std::vector<ContinuationScore> score_continuations(const HybridModel& model,
                                                   const std::vector<ScoredText>& texts, int64_t batch_tokens,
                                                   const Mesh& mesh,
                                                   const std::function<bool(size_t)>& go_on);

}  // namespace transxssm
