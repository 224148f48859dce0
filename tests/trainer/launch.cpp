// Whole runs of tiny models: learning, resuming bit for bit, forking, and what a changed configuration may
// do.
#include "trainer/launch.h"

#include <fstream>
#include <string>
#include <vector>

#include "checkpoint/locate.h"
#include "core/check.h"
#include "support/catch.h"
#include "support/require_error.h"
#include "support/run_result.h"
#include "support/tiny_run.h"

using namespace transxssm;
using namespace transxssm::test;

TEST_CASE("train: every architecture learns, and says so in metrics and status") {
  const TinyRun tiny;
  for (const auto& architecture : architectures()) {
    CAPTURE(architecture);
    auto config = tiny.config(architecture, architecture);
    config.train.max_steps = 60;
    REQUIRE(launch_training(config, {}) == 0);
    const auto rows = metric_rows(config.train.run_dir);
    REQUIRE(rows.front().at("kind") == "train");
    const double first = rows.front().at("loss");
    const double validation = rows.back().at("loss");
    REQUIRE(rows.back().at("kind") == "validation");
    REQUIRE(first > 4.0);  // ln 61 = 4.1
    REQUIRE(validation < 0.75 * first);
    REQUIRE(status_of(config.train.run_dir).at("state") == "finished");
  }
}

TEST_CASE("train: 2n steps equal n steps, a stop, a resume and n steps, bit for bit") {
  const TinyRun tiny;
  const std::string architecture = GENERATE("transxssm", "everything");
  auto whole = tiny.config("whole", architecture);
  REQUIRE(launch_training(whole, {}) == 0);

  auto parts = tiny.config("parts", architecture);
  parts.checkpoint.every = 5;
  parts.train.max_steps = 8;
  {
    auto first = parts;  // killed after step 5 was saved: what came later is dropped on resume
    first.train.max_steps = 8;
    first.checkpoint.every = 5;
    REQUIRE(launch_training(first, {}) == 0);
    for (const auto& entry : list_checkpoints(first.train.run_dir))
      if (entry.step > 5) std::filesystem::remove_all(entry.folder);
  }
  REQUIRE(launch_training(parts, {}) == 0);
  require_equal_bits(final_state(whole.train.run_dir), final_state(parts.train.run_dir));
  REQUIRE(metric_rows(whole.train.run_dir) == metric_rows(parts.train.run_dir));
}

TEST_CASE("train: micro-batch size changes rounding only") {
  const TinyRun tiny;
  auto one = tiny.config("one");
  one.train.micro_batch_size = 4;
  auto four = tiny.config("four");
  four.train.micro_batch_size = 1;
  REQUIRE(launch_training(one, {}) == 0);
  REQUIRE(launch_training(four, {}) == 0);
  const auto a = metric_rows(one.train.run_dir);
  const auto b = metric_rows(four.train.run_dir);
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    REQUIRE(a[i].at("loss").get<double>() == Approx(b[i].at("loss").get<double>()).epsilon(1e-4));
  }
}

TEST_CASE("train: two runs give the same bits") {
  const TinyRun tiny;
  const auto a = tiny.config("a");
  const auto b = tiny.config("b");
  REQUIRE(launch_training(a, {}) == 0);
  REQUIRE(launch_training(b, {}) == 0);
  require_equal_bits(final_state(a.train.run_dir), final_state(b.train.run_dir));
}

TEST_CASE("train: recompute gives the same bits") {
  const TinyRun tiny;
  const auto kept = tiny.config("kept");
  auto again = tiny.config("again");
  again.train.recompute = GENERATE(Recompute::selective, Recompute::full);
  REQUIRE(launch_training(kept, {}) == 0);
  REQUIRE(launch_training(again, {}) == 0);
  require_equal_bits(final_state(kept.train.run_dir), final_state(again.train.run_dir));
}

TEST_CASE("train: a time limit saves and stops with the configured exit code, and the run goes on later") {
  const TinyRun tiny;
  auto limited = tiny.config();
  limited.train.max_minutes = 1e-9;
  REQUIRE(launch_training(limited, {}) == 75);
  REQUIRE(status_of(limited.train.run_dir).at("state") == "stopped");
  auto unlimited = tiny.config();
  REQUIRE(launch_training(unlimited, {}) == 0);
  const auto whole = tiny.config("whole");
  REQUIRE(launch_training(whole, {}) == 0);
  require_equal_bits(final_state(whole.train.run_dir), final_state(unlimited.train.run_dir));
}

TEST_CASE("train: a finished run does nothing when started again, and goes on when max_steps is raised") {
  const TinyRun tiny;
  auto config = tiny.config();
  config.schedule = {};
  config.schedule.type = ScheduleType::constant;
  REQUIRE(launch_training(config, {}) == 0);
  const auto rows = metric_rows(config.train.run_dir);
  REQUIRE(launch_training(config, {}) == 0);
  REQUIRE(metric_rows(config.train.run_dir) == rows);
  config.train.max_steps = 12;
  REQUIRE(launch_training(config, {}) == 0);
  REQUIRE(final_state(config.train.run_dir).values.at("trainer").at("step") == 12);
}

TEST_CASE("train: changes of the mathematics are refused field by field unless allowed") {
  const TinyRun tiny;
  auto config = tiny.config();
  REQUIRE(launch_training(config, {}) == 0);
  auto changed = config;
  changed.optimizer.lr = 1e-3;
  changed.train.max_steps = 20;  // the decay has begun, so this changes steps that were done
  const auto launch = [&] { launch_training(changed, {}); };
  require_error(launch, "optimizer.lr: 0.003 -> 0.001");
  require_error(launch, "train.max_steps: 8 -> 20");
  require_error(launch, "--allow-change optimizer.lr,train.max_steps");
  LaunchOptions allow;
  allow.allow_change = {"optimizer.lr", "train.max_steps"};
  REQUIRE(launch_training(changed, allow) == 0);
  REQUIRE(final_state(changed.train.run_dir).values.at("trainer").at("step") == 20);
}

TEST_CASE("train: data that turn out to be damaged end a run with what was learnt before them saved") {
  const TinyRun tiny;
  auto config = tiny.config();
  config.train.max_steps = 40;  // more than an epoch
  {
    std::fstream tokens(tiny.folder / "train.bin", std::ios::in | std::ios::out | std::ios::binary);
    tokens.seekp(1000);
    tokens.write("\xff\xff", 2);
  }
  require_error([&] { launch_training(config, {}); }, "outside the vocabulary of 61");
  const auto status = status_of(config.train.run_dir);
  REQUIRE(status.at("state") == "failed");
  REQUIRE(status.at("exit_code") == 2);
  REQUIRE(status.at("step").get<int64_t>() > 0);
  REQUIRE(list_checkpoints(config.train.run_dir).back().step == status.at("step").get<int64_t>());
}

TEST_CASE("train: max_steps may be raised until the decay begins, also where warm-up is a share of it") {
  const TinyRun tiny;
  auto config = tiny.config();
  config.schedule.warmup_steps = config.schedule.decay_steps = 0;
  config.schedule.warmup_ratio = config.schedule.decay_ratio = 0.25;  // 2 of 8 steps each
  config.checkpoint.every = 1;
  config.checkpoint.keep_last = 100;
  REQUIRE(launch_training(config, {}) == 0);
  const auto fork = [&](int64_t step) {
    auto longer = config;
    longer.train.run_dir = (tiny.folder / concat("from", step)).string();
    longer.train.max_steps = 16;
    LaunchOptions options;
    options.resume = (tiny.folder / "run/checkpoints" / step_folder_name(step)).string();
    launch_training(longer, options);
    launch_training(longer, {});  // again, from its own checkpoints
    return metric_rows(longer.train.run_dir);
  };
  const auto rows = fork(4);
  REQUIRE(rows.back().at("step") == 16);
  for (const auto& row : rows) {
    if (row.at("kind") != "train") continue;
    const bool decays = row.at("step").get<int64_t>() > 13;  // the last quarter but for its first step
    REQUIRE((row.at("lr") == config.optimizer.lr) != decays);
  }
  require_error([&] { fork(1); }, "train.max_steps: 8 -> 16");               // still warming up
  require_error([&] { fork(8); }, "train.max_steps: 8 -> 16\nput it back");  // decayed; nothing else changed

  auto other_share = config;
  other_share.schedule.warmup_ratio = 0.5;
  require_error([&] { launch_training(other_share, {}); }, "schedule.warmup_ratio: 0.25 -> 0.5");
}

TEST_CASE("train: what may change must be a field") {
  const TinyRun tiny;
  LaunchOptions options;
  options.allow_change = {"optimizer.lr", "optimizer.lrr"};
  require_error([&] { launch_training(tiny.config(), options); },
                "--allow-change optimizer.lrr: is no field. Did you mean lr?");
}

TEST_CASE("train: a refused resume leaves the run's step in status.json, and a finished run finished") {
  const TinyRun tiny;
  auto config = tiny.config();
  REQUIRE(launch_training(config, {}) == 0);
  config.optimizer.lr = 1e-3;
  REQUIRE_THROWS(launch_training(config, {}));
  REQUIRE(status_of(config.train.run_dir).at("state") == "finished");
  REQUIRE(status_of(config.train.run_dir).at("step") == 8);
  std::filesystem::remove(tiny.folder / "run/status.json");
  REQUIRE_THROWS(launch_training(config, {}));
  REQUIRE(status_of(config.train.run_dir).at("state") == "failed");
  REQUIRE(status_of(config.train.run_dir).at("step") == 8);
}

TEST_CASE("train: batch splitting, logging and checkpoint settings change freely") {
  const TinyRun tiny;
  auto config = tiny.config();
  config.train.max_minutes = 1e-9;
  REQUIRE(launch_training(config, {}) == 75);
  config.train.max_minutes = 0;
  config.train.micro_batch_size = 4;
  config.logging.every = 3;
  config.checkpoint.every = 2;
  REQUIRE(launch_training(config, {}) == 0);
}

TEST_CASE("train: the log names the paths of the SSD scan and of attention once, where a layer has one") {
  const TinyRun tiny;
  const auto lines = [&](const std::string& architecture, KernelChoice kernel, const std::string& what) {
    auto config = tiny.config(concat(architecture, enum_name(kernel), what.size()), architecture);
    config.kernels.ssd = config.kernels.attention = kernel;
    config.train.max_steps = 2;
    REQUIRE(launch_training(config, {}) == 0);
    std::vector<std::string> found;
    std::ifstream log(std::filesystem::path(config.train.run_dir) / "log.txt");
    for (std::string line; std::getline(log, line);)
      if (line.find(what) != std::string::npos) found.push_back(line);
    return found;
  };
  const auto require_path = [&](KernelChoice kernel, const std::string& what, const std::string& path) {
    const auto found = lines("transxssm", kernel, what);
    REQUIRE(found.size() == 1);
    REQUIRE(found[0].find(path) != std::string::npos);
  };
  require_path(KernelChoice::automatic, "SSD scan: ", "chunked LibTorch (the CPU has no other)");
  require_path(KernelChoice::reference, "SSD scan: ", "chunked LibTorch (kernels.ssd is reference)");
  require_path(KernelChoice::automatic, " attention: LibTorch", "flash attention (the CPU has no other)");
  require_path(KernelChoice::reference, " attention: LibTorch",
               "flash attention (kernels.attention is reference)");
  REQUIRE(lines("transformer", KernelChoice::automatic, "SSD scan: ").empty());
  REQUIRE(lines("mamba2", KernelChoice::automatic, " attention: LibTorch").empty());
}

TEST_CASE("train: --resume PATH forks another run, --init-from takes weights only") {
  const TinyRun tiny;
  auto original = tiny.config("original");
  original.checkpoint.every = 4;
  REQUIRE(launch_training(original, {}) == 0);

  auto fork = tiny.config("fork");
  LaunchOptions from_step;
  from_step.resume = (tiny.folder / "original/checkpoints/step_00000004").string();
  REQUIRE(launch_training(fork, from_step) == 0);
  require_equal_bits(final_state(original.train.run_dir), final_state(fork.train.run_dir));

  auto warm = tiny.config("warm");
  warm.optimizer.lr = 1e-3;
  LaunchOptions weights;
  weights.init_from = original.train.run_dir;
  REQUIRE(launch_training(warm, weights) == 0);
  const auto rows = metric_rows(warm.train.run_dir);
  REQUIRE(rows.front().at("step") == 1);
  REQUIRE(rows.front().at("loss").get<double>() < 4.0);
}

TEST_CASE("train: --resume none refuses a folder with checkpoints") {
  const TinyRun tiny;
  const auto config = tiny.config();
  LaunchOptions none;
  none.resume = "none";
  REQUIRE(launch_training(config, none) == 0);
  require_error([&] { launch_training(config, none); }, "--resume none");
}

TEST_CASE("train: a damaged newest checkpoint is skipped for the one before") {
  const TinyRun tiny;
  auto config = tiny.config();
  config.checkpoint.every = 4;
  REQUIRE(launch_training(config, {}) == 0);
  const auto before = final_state(config.train.run_dir);
  std::filesystem::resize_file(tiny.folder / "run/checkpoints/step_00000008/manifest.json", 10);
  REQUIRE(launch_training(config, {}) == 0);
  require_equal_bits(final_state(config.train.run_dir), before);
}

TEST_CASE(
    "train: steps that are not finite are skipped, and too many in a row stop the run with an explanation") {
  const TinyRun tiny;
  auto config = tiny.config();
  config.train.z_loss = 1e38;  // the gradient overflows
  config.train.max_skipped_in_row = 3;
  require_error([&] { launch_training(config, {}); }, "with a loss or norm that is not finite, skipped");
  REQUIRE(status_of(config.train.run_dir).at("state") == "failed");
}
