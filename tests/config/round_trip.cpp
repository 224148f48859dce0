// The resolved configuration as YAML and JSON, and what differs between two.
#include "config/changes.h"
#include "config/yaml_case.h"
#include "support/catch.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

// Every kind of value away from its default, with text that needs quotes.
RunConfig unusual() {
  RunConfig config;
  config.model.layers = {4, 2, ""};
  config.model.residual = ResidualKind::plain;
  config.model.norm_eps = 1.0 / 3.0 * 1e-5;
  config.model.rope.scaling = RopeScaling::yarn;
  config.model.rope.factor = 8;
  config.data.tokenizer = "a b/#\"quoted\" \\ größe: {x}";
  config.data.train = {{"yes", 0.1}, {"1e3", 1e-300}, {"*.bin", 3.0}};
  config.data.validation = {{"v-1", "~/x"}, {"null", ""}};
  config.data.validation.back().path = ".5";
  config.data.seed = 18446744073709551615ULL;
  config.train.run_dir = "true";
  config.train.device = Device::cuda;
  config.train.max_minutes = 12345.5;
  config.train.deterministic = false;
  config.optimizer.lr = 0.1 + 0.2;
  config.optimizer.betas = {0.0, 0.999999999};
  config.schedule.type = ScheduleType::cosine;
  config.precision.compute = ComputeDtype::fp32;
  return config;
}

}  // namespace

TEST_CASE("config: the resolved YAML loads to the same configuration") {
  RunConfig config = unusual();
  CHECK(load_text(to_yaml(config)) == config);
  config.model.layers = {8, 7, "SA"};
  CHECK(load_text(to_yaml(config)) == config);
  config.data.tokenizer.clear();
  config.data.eod_id = 0;
  config.data.validation.clear();
  config.data.split = {0.999, 0.001};
  config.data.train = {{"p", std::nullopt}};
  CHECK(load_text(to_yaml(config)) == config);
}

TEST_CASE("config: the stored JSON is read back to the same configuration") {
  const RunConfig config = unusual();
  CHECK(config_from_json(to_json(config)) == config);
  CHECK(config_from_json(nlohmann::json::parse(to_json(config).dump())) == config);
  CHECK(to_json(config).at("model") == to_json(config.model));
  CHECK(config_from_json(to_json(RunConfig{})) == RunConfig{});
}

TEST_CASE("config: a stored path is not expanded a second time") {
  RunConfig config = unusual();
  config.train.run_dir = "${NOT_A_VARIABLE}";
  CHECK(config_from_json(to_json(config)).train.run_dir == "${NOT_A_VARIABLE}");
}

TEST_CASE("config: foreign or damaged JSON is refused; what an older version lacked gets its default") {
  const auto message = [](const nlohmann::json& tree) {
    return input_error_of([&] { config_from_json(tree); });
  };
  CHECK(message(nlohmann::json::array()).find("expected a JSON object") != std::string::npos);
  CHECK(message(nlohmann::json()).find("expected a JSON object") != std::string::npos);
  CHECK(message({{"hidden_size", 768}}).find("hidden_size: unknown key") != std::string::npos);
  CHECK(message(nlohmann::json::object()).find("is required") != std::string::npos);
  nlohmann::json damaged = to_json(unusual());
  damaged["model"]["num_layers"] = "8";
  CHECK(message(damaged).find("stored configuration: model.num_layers: expected integer") !=
        std::string::npos);
  damaged["model"]["num_layers"] = nullptr;
  CHECK(message(damaged).find("model.num_layers: expected integer") != std::string::npos);
  nlohmann::json older = to_json(unusual());
  older["train"].erase("max_skipped_in_row");
  CHECK(config_from_json(older) == unusual());
}

TEST_CASE("config: changed fields are listed by dotted key, lists as one field") {
  const RunConfig before = unusual();
  RunConfig after = before;
  CHECK(changed_fields(to_json(before), to_json(after)).empty());
  after.model.ssd.conv_width = 4;
  after.data.train.at(0).weight = 2.0;
  after.optimizer.betas = {0.9, 0.95};
  after.train.max_steps += 1;
  CHECK(changed_fields(to_json(before), to_json(after)) ==
        std::vector<std::string>{"data.train", "model.ssd.conv_width", "optimizer.betas", "train.max_steps"});
  nlohmann::json older = to_json(before);
  older["train"].erase("device");
  older["logging"]["gone"] = 1;
  CHECK(changed_fields(older, to_json(before)) == std::vector<std::string>{"logging.gone", "train.device"});
}

TEST_CASE(
    "config: model, optimizer, schedule, seeds and data order change the mathematics, the rest does not") {
  for (const char* key : {"model.hidden_size", "model.ssd.conv_width", "model.rope.theta", "optimizer.lr",
                          "optimizer.betas", "schedule.type", "schedule.warmup_ratio", "precision.compute",
                          "train.seed", "data.seed", "train.seq_len", "train.global_batch_size",
                          "train.z_loss", "data.packing", "data.split", "data.eod_id", "no.such.field"}) {
    INFO(key);
    CHECK(changes_mathematics(key));
  }
  for (const char* key : {"model.ssd.chunk_size",
                          "train.run_dir",
                          "train.micro_batch_size",
                          "train.max_steps",
                          "train.max_minutes",
                          "train.stop_exit_code",
                          "train.deterministic",
                          "train.recompute",
                          "train.device",
                          "train.max_skipped_in_row",
                          "kernels.ssd",
                          "data.tokenizer",
                          "data.train",
                          "data.validation",
                          "checkpoint.every",
                          "checkpoint.keep_last",
                          "validation.every",
                          "validation.sequences",
                          "logging.every",
                          "logging.tensorboard"}) {
    INFO(key);
    CHECK_FALSE(changes_mathematics(key));
  }
}
