#include "cli/ranks.h"

#include <cstdlib>

#include <ATen/detail/CUDAHooksInterface.h>

#include "core/check.h"
#include "core/counted.h"
#include "core/logging.h"
#include "parallel/local_ranks.h"

namespace transxssm {

void add_rank_options(CLI::App& command, RankOptions& options, const std::string& verb) {
  constexpr int kMostRanks = 1024;
  auto* gpus =
      command.add_option("--gpus", options.gpus, verb + " on so many GPUs of this machine, a rank each")
          ->check(CLI::Range(1, kMostRanks));
  command.add_option("--ranks", options.ranks, verb + " with so many ranks on this machine's CPU")
      ->check(CLI::Range(1, kMostRanks))
      ->excludes(gpus);
}

int start_ranks(const RankOptions& options, Device device, const std::vector<std::string>& arguments,
                int stop_exit_code) {
  const std::string option = options.gpus > 0 ? "--gpus" : "--ranks";
  const auto environment = rank_environment(environment_variables());
  expect_input(!environment, concat(option, " starts ranks, and ", environment ? environment->launcher : "",
                                    " has started this process as one; leave one of them out"));
  const Device needed = options.gpus > 0 ? Device::cuda : Device::cpu;
  expect_input(device == Device::automatic || device == needed,
               concat(option, " and train.device contradict each other: it must be auto or ",
                      options.gpus > 0 ? "cuda" : "cpu"));
  if (options.gpus > 0) {
    const int visible = at::detail::getCUDAHooks().deviceCount();
    expect_input(options.gpus <= visible,
                 concat("--gpus is ", options.gpus, ", but this machine shows ", counted(visible, "GPU")));
  }
  std::vector<std::string> command{"/proc/self/exe"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  const LocalOutcome outcome = run_local_ranks(
      {.count = options.gpus + options.ranks, .command = command, .stop_exit_code = stop_exit_code});
  constexpr int kBadInput = 2;  // rank 0 has said what is wrong
  if (!outcome.failure.empty() && outcome.exit_code != kBadInput) log_error(outcome.failure);
  return outcome.exit_code;
}

void take_own_gpu(const RankEnvironment& environment) {
  setenv("CUDA_VISIBLE_DEVICES", own_gpu(environment, environment_variables()).c_str(), /*overwrite=*/1);
}

}  // namespace transxssm
