#include "parallel/rank_environment.h"

#include <charconv>
#include <sstream>
#include <vector>

#include <unistd.h>

#include "core/check.h"
#include "core/hash.h"

namespace transxssm {
namespace {

constexpr int64_t kMaxRanks = 1'000'000;
constexpr uint16_t kDefaultPort = 29500;  // PyTorch's

// Variables by name; an empty one counts as unset.
class Lookup {
 public:
  explicit Lookup(const Variables& variables) : variables_(variables) {}

  std::optional<std::string> text(const std::string& name) const {
    const auto found = variables_.find(name);
    if (found == variables_.end() || found->second.empty()) return std::nullopt;
    return found->second;
  }
  bool has(const std::string& name) const { return text(name).has_value(); }

  std::optional<int64_t> number(const std::string& name, int64_t least, int64_t most) const {
    const auto value = text(name);
    if (!value) return std::nullopt;
    int64_t parsed = 0;
    const char* end = value->data() + value->size();
    const auto [stopped, error] = std::from_chars(value->data(), end, parsed);
    expect_input(error == std::errc() && stopped == end && parsed >= least && parsed <= most,
                 concat(name, " in the environment must be a whole number from ", least, " to ", most,
                        ", it is \"", *value, "\""));
    return parsed;
  }

 private:
  const Variables& variables_;
};

// The variables in which a launcher says which process of how many this is.
struct Dialect {
  const char* launcher;
  const char* rank;
  const char* size;
  const char* local_rank;
};

constexpr Dialect kRankAndWorldSize{"RANK and WORLD_SIZE", "RANK", "WORLD_SIZE", "LOCAL_RANK"};
constexpr Dialect kTorchrun{"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK"};
constexpr Dialect kOpenMpi{"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                           "OMPI_COMM_WORLD_LOCAL_RANK"};
constexpr Dialect kHydra{"Hydra (MPICH, Intel MPI)", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"};
constexpr Dialect kSlurm{"SLURM (srun)", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"};

std::string in_words(const Dialect& dialect, const RankEnvironment& place) {
  return concat(dialect.rank, "=", place.rank, " of ", dialect.size, "=", place.size);
}

// The place in one dialect, or nothing where it is not spoken.
std::optional<RankEnvironment> place_in(const Dialect& dialect, const Lookup& variables) {
  const auto rank = variables.number(dialect.rank, 0, kMaxRanks - 1);
  const auto size = variables.number(dialect.size, 1, kMaxRanks);
  if (!rank && !size) return std::nullopt;
  if (!rank || !size) {
    const char* there = rank ? dialect.rank : dialect.size;
    const char* missing = rank ? dialect.size : dialect.rank;
    throw InputError(concat(there, " is set in the environment but ", missing,
                            " is not: a launcher sets both, a run without one neither"));
  }
  expect_input(*rank < *size, concat(dialect.rank, "=", *rank, " in the environment must be less than ",
                                     dialect.size, "=", *size));
  RankEnvironment place;
  place.rank = static_cast<int>(*rank);
  place.size = static_cast<int>(*size);
  const int64_t local_rank = variables.number(dialect.local_rank, 0, kMaxRanks - 1).value_or(0);
  expect_input(local_rank <= *rank, concat(dialect.local_rank, "=", local_rank,
                                           " in the environment can't exceed ", dialect.rank, "=", *rank));
  place.local_rank = static_cast<int>(local_rank);
  place.launcher = dialect.launcher;
  return place;
}

// A step of srun. A batch script that was not started through srun has some of the variables too, and a
// step of one task is where other launchers are started from.
std::optional<RankEnvironment> slurm_step(const Lookup& variables) {
  if (!variables.has("SLURM_STEP_ID") || variables.number(kSlurm.size, 1, kMaxRanks).value_or(1) == 1)
    return std::nullopt;
  return place_in(kSlurm, variables);
}

// Two launchers of which neither runs inside the other number the same processes.
void expect_agreement(const RankEnvironment& place, const Dialect& other,
                      const std::optional<RankEnvironment>& said) {
  if (!said || (said->rank == place.rank && said->size == place.size)) return;
  throw InputError(concat("two launchers disagree about this process: ", in_words(kRankAndWorldSize, place),
                          ", but ", in_words(other, *said), ". Unset RANK and WORLD_SIZE to follow ",
                          other.launcher));
}

// Where the ranks meet when the launcher does not say: two runs on one host should not choose one port.
uint16_t port_of_job(const Lookup& variables) {
  for (const char* job : {"SLURM_JOB_ID", "PMIX_NAMESPACE"})
    if (const auto name = variables.text(job))  // below the ports that systems hand out
      return static_cast<uint16_t>(15000 + hash_name(*name, 0) % 10000);
  return kDefaultPort;
}

std::string address_of(const RankEnvironment& place, const Lookup& variables) {
  if (const auto given = variables.text("MASTER_ADDR")) return *given;
  if (place.size == 1) return "127.0.0.1";
  if (place.launcher == kSlurm.launcher)
    for (const char* list : {"SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"})
      if (const auto hosts = variables.text(list)) return first_host(*hosts);
  // All ranks on one host?
  const char* local_size =
      place.launcher == kOpenMpi.launcher ? "OMPI_COMM_WORLD_LOCAL_SIZE" : "MPI_LOCALNRANKS";
  if (variables.number(local_size, 1, kMaxRanks) == place.size) return "127.0.0.1";
  throw InputError(concat("MASTER_ADDR is not set in the environment: set it to the host of rank 0 in all ",
                          place.size, " processes, so that they find each other (launched by ",
                          place.launcher, ")"));
}

RankEnvironment with_meeting_point(RankEnvironment place, const Lookup& variables) {
  place.address = address_of(place, variables);
  const auto port = variables.number("MASTER_PORT", 1, 65535);
  const bool agent_serves = variables.text("TORCHELASTIC_USE_AGENT_STORE") == "True";
  expect_input(port || !agent_serves,
               "MASTER_PORT is not set in the environment, although torchrun serves a store");
  place.port = port ? static_cast<uint16_t>(*port) : port_of_job(variables);
  place.hosts_store = !agent_serves && place.rank == 0;
  place.prefix =
      concat("/worker/attempt_", variables.number("TORCHELASTIC_RESTART_COUNT", 0, kMaxRanks).value_or(0));
  return place;
}

}  // namespace

Variables environment_variables() {
  Variables variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const size_t equals = text.find('=');
    if (equals != std::string::npos) variables[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return variables;
}

std::optional<RankEnvironment> rank_environment(const Variables& all) {
  const Lookup variables(all);
  const bool by_torchrun = variables.has("TORCHELASTIC_RUN_ID");
  if (auto place = place_in(by_torchrun ? kTorchrun : kRankAndWorldSize, variables)) {
    if (!by_torchrun) {
      expect_agreement(*place, kOpenMpi, place_in(kOpenMpi, variables));
      expect_agreement(*place, kSlurm, slurm_step(variables));
    }
    return with_meeting_point(*place, variables);
  }
  for (const Dialect& dialect :
       {kOpenMpi, kHydra})  // mpirun starts its processes through srun where there is one
    if (auto place = place_in(dialect, variables)) return with_meeting_point(*place, variables);
  if (auto place = slurm_step(variables)) return with_meeting_point(*place, variables);
  expect_input(!variables.has("PMIX_RANK") || variables.has("SLURM_STEP_ID"),
               "PMIX_RANK is set in the environment, but nothing says how many ranks there are: set RANK and "
               "WORLD_SIZE");
  return std::nullopt;
}

Variables local_rank_variables(int rank, int size, uint16_t port) {
  return {{"RANK", std::to_string(rank)},
          {"LOCAL_RANK", std::to_string(rank)},
          {"WORLD_SIZE", std::to_string(size)},
          {"LOCAL_WORLD_SIZE", std::to_string(size)},
          {"MASTER_ADDR", "127.0.0.1"},
          {"MASTER_PORT", std::to_string(port)},
          {"TORCHELASTIC_USE_AGENT_STORE", "True"},
          {"TORCHELASTIC_RESTART_COUNT", "0"},
          {"TORCHELASTIC_RUN_ID", "transxssm"}};
}

std::string own_gpu(const RankEnvironment& environment, const Variables& variables) {
  const auto given = variables.find("CUDA_VISIBLE_DEVICES");
  if (given == variables.end()) return std::to_string(environment.local_rank);
  std::vector<std::string> visible;
  std::istringstream names(given->second);
  for (std::string name; std::getline(names, name, ',');) visible.push_back(name);
  if (visible.size() <= 1) return given->second;  // the launcher gave each of its processes one
  expect_input(environment.local_rank < static_cast<int>(visible.size()),
               concat("rank ", environment.rank, " is number ", environment.local_rank,
                      " on its host, counted from 0, but CUDA_VISIBLE_DEVICES is ", given->second,
                      ": start at most one rank per GPU"));
  return visible[static_cast<size_t>(environment.local_rank)];
}

std::string first_host(const std::string& hosts) {
  std::string first;
  for (size_t at = 0; at < hosts.size() && hosts[at] != ','; ++at) {
    if (hosts[at] != '[') {
      first += hosts[at];
      continue;
    }
    const size_t close = hosts.find(']', at);
    const size_t item_end = hosts.find_first_of(",-]", at);
    expect_input(
        close != std::string::npos && item_end > at + 1,
        concat("the host list \"", hosts, "\" can't be read; set MASTER_ADDR to the host of rank 0"));
    first += hosts.substr(at + 1, item_end - at - 1);
    at = close;
  }
  expect_input(!first.empty(), concat("the host list \"", hosts, "\" names no host; set MASTER_ADDR"));
  return first;
}

}  // namespace transxssm
