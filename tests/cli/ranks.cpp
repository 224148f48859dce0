// transxssm train --ranks: the same run by several processes of this machine.
#include <memory>

#include "cli/bad_input_case.h"
#include "trainer/run_folder.h"

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

// As torchrun starts them: each rank has an output of its own.
std::vector<Ended> as_launched(const std::vector<fs::path>& folders, const std::string& port,
                               const std::vector<std::string>& arguments) {
  std::vector<std::unique_ptr<Program>> ranks;
  for (size_t rank = 0; rank < arguments.size(); ++rank)
    ranks.push_back(std::make_unique<Program>(folders[rank], words(arguments[rank]), [&, rank] {
      const std::string size = std::to_string(arguments.size()), number = std::to_string(rank);
      ::setenv("RANK", number.c_str(), 1);
      ::setenv("LOCAL_RANK", number.c_str(), 1);
      ::setenv("WORLD_SIZE", size.c_str(), 1);
      ::setenv("MASTER_ADDR", "127.0.0.1", 1);
      ::setenv("MASTER_PORT", port.c_str(), 1);
      ::setenv("RES_OPTIONS", "timeout:1 attempts:1", 1);
    }));
  std::vector<Ended> ended;
  for (const auto& rank : ranks) ended.push_back(rank->wait());
  return ended;
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

TEST_CASE("train --ranks: rows say how long ranks wait for each other, and who is slowest") {
  const TinyRun run;
  RunConfig config = run.config();
  config.data.train = {{"train", std::nullopt}};
  config.data.validation.clear();
  config.train.run_dir = "run";
  write(run.folder / "run.yaml", to_yaml(config));
  const Ended ended =
      run_program(run.folder.path(), words(train("--ranks 2 --set train.micro_batch_size=1")));
  INFO(ended.err);
  REQUIRE(ended.code == 0);
  REQUIRE(contains(ended.err, "| comm "));
  std::ifstream in(run.folder / "run/metrics.jsonl");
  double total = 0;
  for (std::string line; std::getline(in, line);) {
    const auto row = nlohmann::json::parse(line);
    if (row["kind"] != "train") continue;
    const double exposed = row.at("exposed_communication_seconds");
    REQUIRE(exposed > 0);
    REQUIRE(exposed < row.at("step_time_seconds").get<double>());
    REQUIRE(row.at("communication_seconds").get<double>() >= exposed);
    REQUIRE(row.at("exposed_communication_total").get<double>() == Approx(total += exposed));
    REQUIRE(row.at("rank_step_seconds_max").get<double>() >= row.at("rank_step_seconds_min").get<double>());
    REQUIRE(row.at("slowest_rank").get<int>() < 2);
    REQUIRE(row.at("fullest_rank").get<int>() < 2);
  }
  REQUIRE(total > 0);
}

TEST_CASE("ranks of a launcher: bad input is said once, by the first rank, and all end with exit code 2") {
  const TinyRun run;
  run.write_tokens("other", 3, 61);
  RunConfig config = run.config();
  config.data.train = {{"data/train", std::nullopt}};
  config.data.validation.clear();
  config.train.run_dir = (run.folder / "run").string();
  // Two hosts, as it were, whose data may differ.
  for (const std::string host : {"a", "b"}) {
    fs::create_directories(run.folder / host / "data");
    write(run.folder / host / "run.yaml", to_yaml(config));
    for (const std::string ending : {".bin", ".idx"})
      fs::copy(run.folder / ((host == "a" ? "train" : "other") + ending),
               run.folder / host / ("data/train" + ending));
  }
  const fs::path a = run.folder / "a", b = run.folder / "b";
  const std::string common = "train --config run.yaml --set train.micro_batch_size=1 ";
  int port = 21000 + ::getpid() % 8000;
  const auto check = [&](const std::vector<fs::path>& folders, const std::vector<std::string>& arguments,
                         const std::string& says) {
    const auto ended = as_launched(folders, std::to_string(port++), arguments);
    for (size_t rank = 0; rank < ended.size(); ++rank) {
      CAPTURE(arguments[0], rank, says, ended[rank].err);
      CHECK(ended[rank].code == 2);
      if (rank == 0)
        CHECK(contains(ended[rank].err, says));
      else
        CHECK_FALSE(contains(ended[rank].err, "error"));
    }
  };
  const auto both = [&](const std::string& more) { return std::vector(2, common + more); };
  check({a, a}, both("--set data.tokenizer=no.model"), "no.model");
  check({a, a}, {common, common + "--set optimizer.lr=1"},
        "the hash of the configuration must be the same on all ranks");
  check({a, b}, both(""), "the hash of the data must be the same on all ranks");
  check({a, a}, both("--set train.global_batch_size=3"), "global_batch_size");
  const RunFolder user(config.train.run_dir);
  check({a, a}, both(""), "is in use by process");
}
