// The choice of an algorithm where no table has one: timed at its first use, kept on this machine.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "csrc_cuda/gemm/params.h"

namespace transxssm::ops {

// Too small a product to tell algorithms apart: the launch takes longer.
bool worth_a_search(const kernels::GemmShape& shape);

// The fastest of cuBLASLt's proposals; its first one unless another takes 1 % less. `milliseconds` times one
// on the product at hand.
kernels::GemmAlgorithm search_gemm(const std::vector<kernels::GemmAlgorithm>& proposals,
                                   const std::function<double(const kernels::GemmAlgorithm&)>& milliseconds);

// What earlier runs found, by the names of ops/gemm.h: one file for each kind of GPU and version of cuBLASLt
// in $XDG_CACHE_HOME/transxssm or ~/.cache/transxssm. Without a home nothing is kept; a file that cannot be
// read or written is warned of and does not stop a run.
std::optional<kernels::GemmAlgorithm> kept_gemm(const kernels::GemmMachine& machine, const std::string& name);
void keep_gemm(const kernels::GemmMachine& machine, const std::string& name,
               const kernels::GemmAlgorithm& algorithm);

}  // namespace transxssm::ops
