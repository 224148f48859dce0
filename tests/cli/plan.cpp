// `transxssm plan` on shipped configurations, for GPUs that need not be there.
#include <filesystem>
#include <string>

#include "support/catch.h"
#include "support/run_program.h"
#include "support/source_dir.h"

using namespace transxssm::test;

namespace {

Ended plan(const std::string& config, const std::string& more) {
  const TempFolder folder;
  const Ended ended = run_program(
      folder.path(), words("plan --config " + kSourceDir.string() + "/configs/" + config + " " + more));
  INFO(ended.err);
  REQUIRE(ended.code == 0);
  REQUIRE(std::filesystem::is_empty(folder.path()));
  return ended;
}

}  // namespace

TEST_CASE("plan: says what a run has, does and needs, and that it fits") {
  const std::string out = plan("transxssm-320m.yaml", "--on h100").out;
  for (const std::string part :
       {"hidden_size: 1024", "NVIDIA H100", "369460672", "335906240", "tokens of a step", "2097152",
        "model FLOPs", "time of a step", "checkpoint", "4.13 GiB", "kept by each of 28 SSD layers",
        "kept by each of 4 attention layers", "Adam's moments", "\nfits\n"}) {
    INFO(part);
    REQUIRE(contains(out, part));
  }
}

TEST_CASE("plan: says what to try when a run does not fit") {
  const std::string out = plan("transxssm-1.3b.yaml", "--on h100 --set train.micro_batch_size=64").out;
  INFO(out);
  REQUIRE(contains(out, "does not fit: the largest that fits is train.micro_batch_size 8; "));
  REQUIRE(contains(out, "with train.recompute: full"));
}

TEST_CASE("plan: for the CPU time is not predicted") {
  const std::string out = plan("quickstart.yaml", "--set train.device=cpu").out;
  REQUIRE(contains(out, "device: CPU, 1 thread"));
  REQUIRE(contains(out, "not predicted for this device"));
  REQUIRE(contains(out, "\nfits\n"));
}
