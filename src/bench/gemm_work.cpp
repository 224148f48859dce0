#include "bench/gemm_work.h"

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <set>
#include <utility>

#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include "bench/device_timer.h"
#include "core/check.h"
#include "core/clock.h"
#include "model/hybrid_model.h"
#include "ops/cross_entropy.h"
#include "ops/gemm.h"

namespace transxssm::bench {
namespace {

using kernels::GemmAlgorithm;
using kernels::GemmKind;
using kernels::GemmShape;

struct Operands {
  at::Tensor left, right, result;

  explicit Operands(const GemmShape& s) {
    const auto bf16 = at::TensorOptions(at::kCUDA).dtype(at::kBFloat16);
    const bool weight = s.kind == GemmKind::weight_gradient;
    left = at::randn({s.rows, s.kind == GemmKind::forward ? s.in : s.out}, bf16);
    right = at::randn({weight ? s.rows : s.out, s.in}, bf16);
    result = at::zeros({weight ? s.out : s.rows, s.kind == GemmKind::forward ? s.out : s.in},
                       weight ? bf16.dtype(at::kFloat) : bf16);
  }
};

// The algorithms as variants of one operation.
Workload variants(const GemmShape& shape, const Operands& x, const std::vector<GemmAlgorithm>& algorithms) {
  return {algorithms.size(), [=, &x, kind = shape.kind](size_t i) {
            ops::gemm_by(algorithms[i], kind, x.result, x.left, x.right);
          }};
}

// First proposal, choice so far, and what is fast for a moment.
std::vector<GemmAlgorithm> finalists_of(const GemmShape& shape, const Operands& operands,
                                        const std::vector<GemmAlgorithm>& proposals, int repeats) {
  constexpr size_t kMost = 6;
  constexpr double kNearlyFastest = 1.06;
  const auto rough = medians_by_set(variants(shape, operands, proposals), repeats);
  std::vector<size_t> order(proposals.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return rough[a] < rough[b]; });
  std::vector<GemmAlgorithm> finalists{proposals.front(), ops::chosen_gemm(shape)};
  for (size_t i = 0; i < std::min(kMost, order.size()); ++i)
    if (rough[order[i]] <= kNearlyFastest * rough[order[0]]) finalists.push_back(proposals[order[i]]);
  return finalists;
}

}  // namespace

std::vector<GemmShape> gemm_shapes(const ModelConfig& config, int64_t tokens) {
  std::set<std::pair<int64_t, std::pair<int64_t, int64_t>>> products;  // rows, in, out
  for (const ParameterSpec& spec : HybridModel::parameter_specs(config)) {
    if (spec.kind != ParameterKind::matrix || spec.shape.front() == config.vocab_size) continue;
    products.insert({tokens, {spec.shape[1], spec.shape[0]}});
  }
  const int64_t chunk = ops::cross_entropy_chunk_rows(tokens, config.vocab_size, at::kCUDA, at::kBFloat16);
  for (const int64_t rows : {std::min(chunk, tokens), tokens % chunk})
    if (rows > 0) products.insert({rows, {config.hidden_size, config.vocab_size}});
  std::vector<GemmShape> shapes;
  for (const auto& [rows, widths] : products)
    for (const auto kind : {GemmKind::forward, GemmKind::input_gradient, GemmKind::weight_gradient})
      shapes.push_back({kind, rows, widths.first, widths.second});
  return shapes;
}

GemmTiming time_gemm(const GemmShape& shape, int repeats) {
  const auto proposals = ops::gemm_proposals(shape, 1);
  expect(!proposals.empty(), concat("cuBLASLt has no algorithm for ", ops::gemm_name(shape)));
  const Operands operands(shape);
  const auto times =
      medians_by_set(variants(shape, operands, {proposals.front(), ops::chosen_gemm(shape)}), repeats);
  return {.shape = shape, .first_ms = times[0], .chosen_ms = times[1]};
}

GemmTiming search_gemm(const GemmShape& shape, int repeats) {
  constexpr int kProposals = 24;
  constexpr double kWorthIt = 0.995, kBlockMs = 100;
  constexpr int kRounds = 2;
  const auto proposals = ops::gemm_proposals(shape, kProposals);
  expect(!proposals.empty(), concat("cuBLASLt has no algorithm for ", ops::gemm_name(shape)));
  const Operands operands(shape);
  const auto finalists = finalists_of(shape, operands, proposals, std::max(3, repeats / 3));
  const auto times = sustained_ms_by_set(variants(shape, operands, finalists), kBlockMs, kRounds);
  const size_t fastest = static_cast<size_t>(std::min_element(times.begin(), times.end()) - times.begin());
  const size_t best = times[fastest] < kWorthIt * times[0] ? fastest : 0;
  return {shape, times[0], times[1], times[best], finalists[best]};
}

double gemm_flops(const GemmShape& s) {
  return 2.0 * static_cast<double>(s.rows) * static_cast<double>(s.in) * static_cast<double>(s.out);
}

std::string gemm_table_text(const std::vector<GemmTiming>& found, const std::string& gpu) {
  const auto machine = kernels::gemm_machine();
  std::string text = concat(
      "// Fastest algorithms for the shipped configurations. Written by `transxssm bench gemm --search` on "
      "one\n"
      "// ",
      gpu, ", ", utc_time(),
      "; see docs/kernels.md.\n"
      "#pragma once\n\n#include <array>\n\n#include \"csrc_cuda/gemm/params.h\"\n\n"
      "namespace transxssm::ops {\n\nstruct GemmTableEntry {\n  kernels::GemmShape shape;\n"
      "  kernels::GemmAlgorithm algorithm;\n};\n\n"
      "inline constexpr kernels::GemmMachine kGemmTableMachine{",
      machine.library, ", ", machine.capability, ", ", machine.multiprocessors,
      "};\n\n"
      "// kind, rows, in, out; cuBLASLt's description.\n"
      "// clang-format off\n"
      "inline constexpr std::array<GemmTableEntry, ",
      found.size(), "> kGemmTable{{\n");
  const char* const kinds[] = {"forward", "input_gradient", "weight_gradient"};
  for (const GemmTiming& f : found) {
    text += concat("    {{kernels::GemmKind::", kinds[static_cast<size_t>(f.shape.kind)], ", ", f.shape.rows,
                   ", ", f.shape.in, ", ", f.shape.out, "}, {");
    for (size_t i = 0; i < f.best.size(); ++i) {
      char word[24];
      std::snprintf(word, sizeof word, "%s0x%llx", i ? ", " : "", static_cast<unsigned long long>(f.best[i]));
      text += word;
    }
    text += "}},\n";
  }
  return text + "}};\n// clang-format on\n\n}  // namespace transxssm::ops\n";
}

}  // namespace transxssm::bench
