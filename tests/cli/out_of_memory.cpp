// A run that needs more memory than there is says what was needed and what to change, and ends with 2.
#include <filesystem>
#include <string>

#include <sys/resource.h>

#include "config/load.h"
#include "support/catch.h"
#include "support/run_program.h"
#include "support/run_result.h"
#include "support/tiny_run.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

constexpr int kBadInput = 2;

// What a tiny run with `changes` says when its data segment may not grow beyond 1.5 GB.
std::string refusal(const std::string& changes) {
  const TinyRun tiny;
  write(tiny.folder / "run.yaml", to_yaml(tiny.config()));
  const Ended ended = run_program(tiny.folder.path(), words("train --config run.yaml " + changes), [] {
    const rlimit limit{1'500'000'000, 1'500'000'000};
    ::setrlimit(RLIMIT_DATA, &limit);
  });
  INFO(ended.err);
  REQUIRE(ended.code == kBadInput);
  REQUIRE(status_of(tiny.folder / "run").at("state") == "failed");
  REQUIRE_FALSE(contains(ended.err, "frame #"));
  return ended.err;
}

}  // namespace

TEST_CASE("out of memory: a model that is larger than the memory is refused before it is made") {
  const std::string says = refusal("--set model.hidden_size=1048576 --set model.intermediate_size=4194304");
  INFO(says);
  REQUIRE(contains(
      says,
      "out of memory: parameters, gradients and optimizer moments of this model take 768.01 TiB (weights "));
  REQUIRE(contains(says, "are free on CPU, 1 thread. Choose a smaller model (model.hidden_size"));
}

namespace {

const std::string kBatch =
    "--set train.seq_len=1024 --set train.micro_batch_size=512 --set train.global_batch_size=512 --set "
    "data.validation=[] ";

}  // namespace

TEST_CASE("out of memory: a batch that cannot fit is refused before the first step") {
  const std::string says =
      refusal(kBatch + "--set model.hidden_size=4096 --set model.intermediate_size=16384");
  INFO(says);
  REQUIRE(contains(says, "out of memory: with train.micro_batch_size 512 a step needs "));
  REQUIRE(contains(says, "activations of attention layers "));
  REQUIRE(contains(says, " are free on CPU, 1 thread; "));
}

TEST_CASE("out of memory: activations that can't be allocated although they were expected to fit") {
  const std::string says = refusal(kBatch);
  INFO(says);
  REQUIRE(contains(says, "out of memory: an allocation of "));
  REQUIRE(contains(says,
                   " in the CPU's memory failed\nLower train.micro_batch_size (now 512), set "
                   "train.recompute: full, shorten train.seq_len (now 1024) or choose a smaller model"));
}
