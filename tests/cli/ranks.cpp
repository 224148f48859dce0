// transxssm train --ranks: the same run by several processes of this machine.
#include "cli/bad_input_case.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

// Losses of a run of four steps in `name`.
std::vector<double> losses(const fs::path& folder, const std::string& name, const std::string& how) {
  const std::string common =
      train("--set train.max_steps=4 --set train.micro_batch_size=1 --set logging.every=1 ");
  const Ended ended = run_program(folder, words(common + "--set train.run_dir=" + name + " " + how));
  INFO(ended.err);
  REQUIRE(ended.code == 0);
  std::vector<double> out;
  for (const auto& row : metric_rows((folder / name).string()))
    if (row["kind"] == "train") out.push_back(row["loss"]);
  return out;
}

}  // namespace

TEST_CASE("train --ranks: two processes learn what one does, at every stage") {
  const TinyRun run;
  RunConfig config = run.config();
  config.data.train = {{"train", std::nullopt}};
  config.data.validation.clear();
  write(run.folder / "run.yaml", to_yaml(config));
  const auto alone = losses(run.folder.path(), "alone", "");
  REQUIRE(alone.size() == 4);
  for (const std::string stage : {"0", "1", "2", "3"}) {
    const auto two = losses(run.folder.path(), "two" + stage, "--ranks 2 --set parallel.zero_stage=" + stage);
    REQUIRE(two.size() == 4);
    for (size_t i = 0; i < 4; ++i) REQUIRE(two[i] == Approx(alone[i]).epsilon(1e-5));
  }
}

TEST_CASE("train --ranks: what does not fit is said once") {
  check_all(
      {
          {"both", train("--ranks 2 --gpus 2"), {"--gpus", "excludes", "--ranks"}},
          {"stage", train("--ranks 2 --set parallel.zero_stage=4"), {"zero_stage", "integer from 0 to 3"}},
          {"none", train("--ranks 0"), {"--ranks", "1"}},
          {"device", train("--ranks 2 --set train.device=cuda"), {"--ranks and train.device contradict"}},
          {"batch", train("--ranks 3 --set train.micro_batch_size=1"), {"global_batch_size"}},
          {"missing data", train("--ranks 2 --set data.tokenizer=no.model"), {"no.model"}},
      },
      kRunFolders);
}
