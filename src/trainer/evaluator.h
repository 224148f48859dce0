// Loss on held-out data.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "data/validation_set.h"
#include "model/hybrid_model.h"
#include "parallel/mesh.h"

namespace transxssm {

struct ValidationResult {
  std::string set;
  double loss = 0;                      // nats per counted label
  std::optional<double> bits_per_byte;  // of the text behind the labels; none without a tokenizer
};

// Every set in turn, without gradients, its batches divided among the ranks: all get the result. Between
// batches `abandon` is asked, on all ranks together; when it says so, nothing is returned.
std::optional<std::vector<ValidationResult>> evaluate(const HybridModel& model,
                                                      const std::vector<ValidationSet>& sets,
                                                      const Mesh& mesh, const std::function<bool()>& abandon);

}  // namespace transxssm
