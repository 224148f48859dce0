// Which checkpoint a launch begins with.
#include "core/check.h"
#include "support/catch.h"
#include "support/require_error.h"
#include "support/tiny_run.h"
#include "trainer/launch.h"

using namespace transxssm;
using namespace transxssm::test;

TEST_CASE(
    "start plan: auto is fresh without checkpoints, the newest one otherwise, and wins over --init-from") {
  const TinyRun tiny;
  auto config = tiny.config();
  config.checkpoint.every = 4;
  const std::filesystem::path run_dir = config.train.run_dir;
  REQUIRE(plan_start({}, run_dir).kind == StartPlan::Kind::fresh);
  REQUIRE(launch_training(config, {}) == 0);
  REQUIRE(plan_start({}, run_dir).checkpoint.filename() == "step_00000008");
  LaunchOptions both;
  both.init_from = (run_dir / "checkpoints/step_00000004").string();
  REQUIRE(plan_start(both, run_dir).kind == StartPlan::Kind::resume);
  REQUIRE(plan_start(both, tiny.folder / "other").kind == StartPlan::Kind::init_from);
  LaunchOptions path;
  path.resume = run_dir.string();
  REQUIRE(plan_start(path, tiny.folder / "other").checkpoint.filename() == "step_00000008");
  path.init_from = run_dir.string();
  REQUIRE_THROWS_AS(plan_start(path, tiny.folder / "other"), InputError);
}

TEST_CASE("start plan: --resume PATH goes back in its own run and never into the folder of another") {
  const TinyRun tiny;
  auto config = tiny.config();
  config.checkpoint.every = 4;
  REQUIRE(launch_training(config, {}) == 0);
  auto other = tiny.config("other");
  REQUIRE(launch_training(other, {}) == 0);
  LaunchOptions back;
  back.resume = (tiny.folder / "run/checkpoints/step_00000004").string();
  require_error([&] { launch_training(other, back); }, "already has checkpoints, of another run");
  REQUIRE(launch_training(config, back) == 0);
}

TEST_CASE("start plan: a tokenizer may move, but not become another") {
  REQUIRE_NOTHROW(expect_tokenizer("1f", "1f", {}));
  require_error([] { expect_tokenizer("1f", "2e", {}); },
                "trained with the tokenizer of hash 1f, here is the");
  require_error([] { expect_tokenizer("1f", "", {}); }, "--allow-change data.tokenizer");
  REQUIRE_NOTHROW(expect_tokenizer("1f", "2e", {"data.tokenizer"}));
}
