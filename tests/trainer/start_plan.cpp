// Which checkpoint a launch begins with.
#include "core/check.h"
#include "support/catch.h"
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
