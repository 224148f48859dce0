#include "ops/gemm_search.h"

#include <cstdlib>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/check.h"
#include "core/logging.h"

namespace transxssm::ops {
namespace {

using kernels::GemmAlgorithm;
using kernels::GemmMachine;

std::optional<std::filesystem::path> file_for(const GemmMachine& machine) {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  if ((!cache || !*cache) && (!home || !*home)) return std::nullopt;
  const auto folder = cache && *cache ? std::filesystem::path(cache) : std::filesystem::path(home) / ".cache";
  return folder / "transxssm" /
         concat("gemm-cublaslt", machine.library, "-sm", machine.capability, "-", machine.multiprocessors,
                ".json");
}

using Kept = std::map<std::string, GemmAlgorithm>;

// A cache that is broken or out of reach costs a search, never a run.
template <class Work>
void or_warn(const std::filesystem::path& file, Work&& work) {
  try {
    work();
  } catch (const std::exception& error) {
    log_warning(concat("algorithms of products in ", file.string(), ": ", error.what()));
  }
}

// Nothing of a broken file, which the next search replaces.
Kept read(const std::filesystem::path& file) {
  Kept kept;
  or_warn(file, [&] {
    if (std::filesystem::exists(file)) kept = nlohmann::json::parse(read_file(file)).get<Kept>();
  });
  return kept;
}

}  // namespace

bool worth_a_search(const kernels::GemmShape& s) {
  constexpr double kOperations = 2e9;  // some 5 µs of an H100
  return 2.0 * static_cast<double>(s.rows) * static_cast<double>(s.in) * static_cast<double>(s.out) >=
         kOperations;
}

GemmAlgorithm search_gemm(const std::vector<GemmAlgorithm>& proposals,
                          const std::function<double(const GemmAlgorithm&)>& milliseconds) {
  constexpr double kWorthIt = 0.99;
  expect(!proposals.empty(), "search_gemm: no proposals");
  const GemmAlgorithm* best = &proposals.front();
  double bar = kWorthIt * milliseconds(proposals.front());
  for (const GemmAlgorithm& proposal : proposals) {
    const double time = milliseconds(proposal);
    if (time >= bar) continue;
    bar = time;
    best = &proposal;
  }
  return *best;
}

std::optional<GemmAlgorithm> kept_gemm(const GemmMachine& machine, const std::string& name) {
  const auto file = file_for(machine);
  const Kept kept = file ? read(*file) : Kept();
  const auto found = kept.find(name);
  return found == kept.end() ? std::nullopt : std::optional(found->second);
}

void keep_gemm(const GemmMachine& machine, const std::string& name, const GemmAlgorithm& algorithm) {
  const auto file = file_for(machine);
  if (!file) return;
  or_warn(*file, [&] {
    std::filesystem::create_directories(file->parent_path());
    Kept kept = read(*file);
    kept[name] = algorithm;
    write_file_atomically(*file, nlohmann::json(kept).dump(1) + "\n");
  });
}

}  // namespace transxssm::ops
