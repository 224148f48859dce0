// A run writes Chrome traces of the steps it is asked for, and of no others.
#include <filesystem>

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "support/catch.h"
#include "support/run_result.h"
#include "support/tiny_run.h"
#include "trainer/launch.h"

using namespace transxssm;
using namespace transxssm::test;

TEST_CASE("trace.steps: each named step has its trace in the run folder") {
  const TinyRun tiny;
  RunConfig config = tiny.config();
  config.train.max_steps = 4;
  config.trace.steps = {2, 4, 99};
  REQUIRE(launch_training(config, {}) == 0);
  const auto folder = std::filesystem::path(config.train.run_dir) / "trace";
  REQUIRE(std::distance(std::filesystem::directory_iterator(folder), {}) == 2);
  for (const char* name : {"step_00000002.json", "step_00000004.json"}) {
    const auto trace = nlohmann::json::parse(read_file(folder / name));
    REQUIRE(trace.at("traceEvents").size() > 100);
  }
}

TEST_CASE("trace.steps: tracing changes no bit of the run") {
  const TinyRun tiny;
  RunConfig config = tiny.config("plain");
  config.train.max_steps = 4;
  REQUIRE(launch_training(config, {}) == 0);
  config.train.run_dir = (tiny.folder / "traced").string();
  config.trace.steps = {3};
  REQUIRE(launch_training(config, {}) == 0);
  REQUIRE(metric_rows((tiny.folder / "plain").string()) == metric_rows(config.train.run_dir));
}
