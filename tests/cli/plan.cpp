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
        "model FLOPs", "predicted, one document a window", "isolated documents take less", "time of a step",
        "checkpoint", "4.13 GiB", "kept by each of 28 SSD layers", "kept by each of 4 attention layers",
        "Adam's moments", "\nfits\n"}) {
    INFO(part);
    REQUIRE(contains(out, part));
  }
}

TEST_CASE("plan: says what to try when a run does not fit") {
  const std::string out = plan("transxssm-1.3b.yaml", "--on h100 --set train.micro_batch_size=64").out;
  INFO(out);
  REQUIRE(contains(out, "does not fit: the largest that fits is train.micro_batch_size 4; "));
  REQUIRE(contains(out, "with train.recompute: full"));
}

TEST_CASE("plan: what ranks share shows in memory, time and traffic") {
  const std::string moments = "Adam's moments";
  const auto row = [](const std::string& out, const std::string& name) {
    const size_t begin = out.find(name);
    REQUIRE(begin != std::string::npos);
    return out.substr(begin, out.find('\n', begin) - begin);
  };
  const std::string alone = plan("transxssm-320m.yaml", "--on h100").out;
  const std::string copies = plan("transxssm-320m.yaml", "--on h100 --gpus 4").out;
  const std::string shared =
      plan("transxssm-320m.yaml", "--on h100 --gpus 4 --set parallel.zero_stage=1").out;
  REQUIRE(contains(row(alone, moments), "2.75 GiB"));
  REQUIRE(row(copies, moments) == row(alone, moments));
  REQUIRE(contains(row(shared, moments), "704.70 MiB"));
  const std::string sent = "sent by each rank in a step ";
  REQUIRE(contains(row(copies, sent), "2.06 GiB"));
  REQUIRE(contains(row(shared, sent), "1.55 GiB"));
  const std::string gradients =
      plan("transxssm-320m.yaml", "--on h100 --gpus 4 --set parallel.zero_stage=2").out;
  REQUIRE(row(gradients, moments) == row(shared, moments));
  REQUIRE(contains(row(gradients, "gradients on their way"), "MiB"));
  const std::string weights =
      plan("transxssm-320m.yaml", "--on h100 --gpus 4 --set parallel.zero_stage=3").out;
  REQUIRE(contains(row(weights, "weights on their way"), "MiB"));
  REQUIRE(contains(weights, "parallel.zero_stage"));
}

TEST_CASE("plan: a number of GPUs that does not divide the global batch is refused") {
  const TempFolder folder;
  const Ended ended = run_program(folder.path(), words("plan --config " + kSourceDir.string() +
                                                       "/configs/transxssm-320m.yaml --on h100 --gpus 3"));
  REQUIRE(ended.code == 2);
  REQUIRE(contains(ended.err, "512 sequences can't be divided among 3 ranks in micro-batches of 8"));
}

TEST_CASE("plan: for the CPU time is not predicted") {
  const std::string out = plan("quickstart.yaml", "--set train.device=cpu").out;
  REQUIRE(contains(out, "device: CPU, 1 thread"));
  REQUIRE(contains(out, "not predicted: the known rates are of an H100 SXM (--on h100)"));
  REQUIRE(contains(out, "\nfits\n"));
}

TEST_CASE("plan: what its rates are not known for gets no time") {
  const auto says = [](const std::string& config, const std::string& more, const std::string& rates) {
    const std::string out = plan(config, more).out;
    INFO(out);
    REQUIRE(contains(out, "not predicted: the known rates are of " + rates));
    REQUIRE_FALSE(contains(out, "tokens per second"));
  };
  const std::string f = "transxssm-320m.yaml";
  for (const std::string gpu : {"a100", "h200"}) says(f, "--on " + gpu, "an H100 SXM");
  says(f, "--on h100 --set precision.compute=fp32", "precision.compute: bf16");
  says(f, "--on h100 --set kernels.ssd=reference", "the scan's kernels");
  says(f, "--on h100 --set kernels.attention=reference", "cuDNN attention");
  says(f, "--on h100 --set kernels.cuda_graphs=false", "captured graphs");
  says(f, "--on h100 --set train.micro_batch_size=1", "models at least 1024 wide and micro-batches of");
  says("mamba2-320m.yaml", "--on h100", "SSD layers without convolution");
}

TEST_CASE("plan: a run that leaves less than a plan may be wrong by is not said to fit") {
  const std::string tight = "--on h100 --set data.validation=[] --set train.micro_batch_size=8";
  const std::string out = plan("transxssm-1.3b.yaml", tight).out;
  INFO(out);
  REQUIRE(contains(out,
                   "may not fit: less than 3 % would be free, which a plan may be wrong by; surely: the "
                   "largest that fits is train.micro_batch_size 4"));
}
