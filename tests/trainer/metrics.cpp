// metrics.jsonl: the names users rely on, rows cut on resume, nothing lost in a killed process.
#include "trainer/metrics.h"

#include <csignal>
#include <limits>
#include <sstream>

#include "support/catch.h"
#include "support/temp_folder.h"

using namespace transxssm;
using namespace transxssm::test;
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

TrainMetrics train_row(int64_t step) {
  TrainMetrics row;
  row.step = step;
  row.loss = 10.0 / static_cast<double>(step);
  return row;
}

std::vector<json> rows_of(const fs::path& file) {
  std::istringstream lines(read_file(file));
  std::vector<json> rows;
  for (std::string line; std::getline(lines, line);) rows.push_back(json::parse(line));
  return rows;
}

std::vector<int64_t> steps_of(const fs::path& file) {
  std::vector<int64_t> steps;
  for (const json& row : rows_of(file)) steps.push_back(row.at("step"));
  return steps;
}

using Steps = std::vector<int64_t>;

}  // namespace

TEST_CASE("metrics: rows carry these names in this order") {
  REQUIRE(
      to_json(train_row(8)).dump() ==
      R"({"kind":"train","step":8,"consumed_tokens":0,"loss":1.25,"lr":0.0,"grad_norm":0.0,)"
      R"("step_time_seconds":0.0,"elapsed_seconds":0.0,"tokens_per_second":0.0,"tokens_per_second_per_gpu":0.0,)"
      R"("tflops_per_gpu":0.0,"mfu":null,"memory_peak_gib":null,"data_wait_seconds":0.0,"skipped_steps":0})");
  REQUIRE(to_json(ValidationMetrics{3, "heldout", 2.5, 1.5}).dump() ==
          R"({"kind":"validation","step":3,"set":"heldout","loss":2.5,"bits_per_byte":1.5})");
}

TEST_CASE("metrics: what is not finite or not known is null") {
  TrainMetrics row = train_row(1);
  row.loss = std::numeric_limits<double>::quiet_NaN();
  row.grad_norm = std::numeric_limits<double>::infinity();
  row.mfu = -std::numeric_limits<double>::infinity();
  const json tree = json::parse(to_json(row).dump());
  for (const char* name : {"loss", "grad_norm", "mfu", "memory_peak_gib"}) REQUIRE(tree.at(name).is_null());
  REQUIRE(json::parse(to_json(ValidationMetrics{1, "a", 1, {}}).dump()).at("bits_per_byte").is_null());
}

TEST_CASE("metrics: a resumed run drops the rows beyond its checkpoint and goes on") {
  const TempFolder folder;
  const fs::path file = folder / "metrics.jsonl";
  {
    MetricsWriter writer(file, {}, {});
    for (int64_t step = 1; step <= 5; ++step) writer.write(train_row(step));
    writer.write(ValidationMetrics{5, "heldout", 2.5, 1.5});
  }
  {
    MetricsWriter writer(file, {}, {3, 3});
    writer.write(train_row(4));
  }
  REQUIRE(steps_of(file) == Steps{1, 2, 3, 4});
  MetricsWriter fresh(file, {}, {});
  REQUIRE(steps_of(file).empty());
}

TEST_CASE("metrics: the validation of the checkpoint's own step is dropped where it came after the save") {
  const TempFolder folder;
  const fs::path file = folder / "metrics.jsonl";
  {
    MetricsWriter writer(file, {}, {});
    for (const int64_t step : {2, 4}) {
      writer.write(train_row(step));
      writer.write(ValidationMetrics{step, "heldout", 2.5, 1.5});
    }
  }
  drop_metrics_after(file, {4, 2});
  REQUIRE(steps_of(file) == Steps{2, 2, 4});
}

TEST_CASE("metrics: a torn last line and foreign lines are dropped, whole rows stay") {
  const TempFolder folder;
  const fs::path file = folder / "metrics.jsonl";
  const std::string whole = "{\"kind\": \"train\", \"step\": 1}\n";
  for (const std::string torn :
       {"{\"kind\": \"train\", \"st", "{\"kind\": \"train\", \"step\": 2}", "\n", "7\n", "{}\n"}) {
    INFO(torn);
    write_file_atomically(file, whole + torn);
    drop_metrics_after(file, {10, 10});
    REQUIRE(read_file(file) == whole);
  }
}

TEST_CASE("metrics: a file with nothing to drop is left as it is, a missing one is fine") {
  const TempFolder folder;
  const fs::path file = folder / "metrics.jsonl";
  REQUIRE_NOTHROW(drop_metrics_after(file, {3, 3}));
  REQUIRE_FALSE(fs::exists(file));
  write_file_atomically(file, "{\"step\":  3}\n");
  const auto before = fs::last_write_time(file);
  ::usleep(10000);
  drop_metrics_after(file, {3, 3});
  REQUIRE(fs::last_write_time(file) == before);
}

TEST_CASE("metrics: rows survive kill -9 of the process that wrote them") {
  const TempFolder folder;
  const fs::path file = folder / "metrics.jsonl";
  const int code = in_child([&] {
    MetricsWriter writer(file, folder / "tensorboard", {});
    for (int64_t step = 1; step <= 100; ++step) writer.write(train_row(step));
    return ::kill(::getpid(), SIGKILL);
  });
  REQUIRE(code == 128 + SIGKILL);
  REQUIRE(steps_of(file).size() == 100);
}

TEST_CASE("metrics: TensorBoard gets the same names under train/ and validation/SET/") {
  const TempFolder folder;
  MetricsWriter writer(folder / "metrics.jsonl", folder / "tensorboard", {});
  writer.write(train_row(1));
  writer.write(ValidationMetrics{1, "heldout", 2.5, 1.5});
  const std::string events = read_file(fs::directory_iterator(folder / "tensorboard")->path());
  for (const std::string tag : {"train/loss", "train/grad_norm", "train/skipped_steps",
                                "validation/heldout/loss", "validation/heldout/bits_per_byte"})
    REQUIRE(events.find(tag) != std::string::npos);
  for (const std::string tag : {"train/mfu", "train/step\x15", "train/kind"})
    REQUIRE(events.find(tag) == std::string::npos);
}
