// What is wrong inside a file: each message names line, key and what would be valid.
#include <limits>

#include "config/yaml_case.h"
#include "support/catch.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

struct BadFile {
  const char* text;                // follows the five lines of kMinimal
  std::vector<const char*> parts;  // of the message, in order
};

const BadFile kBadFiles[] = {
    // Keys.
    {"model:\n  hiden_size: 8\n",
     {"c.yaml:7: model.hiden_size: unknown key", "Did you mean hidden_size?", "Valid"}},
    {"modle:\n  hidden_size: 8\n", {"c.yaml:6: modle: unknown key", "Did you mean model?"}},
    {"hidden_size: 8\n", {"c.yaml:6: hidden_size: unknown key", "Did you mean model.hidden_size?"}},
    {"model:\n  ssd: {chunk: 64}\n", {"c.yaml:7: model.ssd.chunk: unknown key", "Valid here: num_heads"}},
    {"model:\n  num_layers: 8\n  num_layers: 8\n",
     {"c.yaml:8: repeated key 'num_layers'", "first given at", "c.yaml:7"}},
    {"logging: {every: 1}\nlogging: {every: 2}\n", {"c.yaml:7: repeated key 'logging'"}},
    {"? [a, b]\n: 1\n", {"a key must be a name"}},
    {"evaluation: {tasks: []}\n", {"evaluation: unknown key"}},
    {"parallel: {zero_stage: 4}\n", {"parallel.zero_stage: expected integer from 0 to 3, got '4'"}},
    {"export: {format: hf}\n", {"export: unknown key"}},
    {"precision: {gradients: fp32}\n", {"precision.gradients: unknown key", "compute"}},
    {"model:\n  <<: {num_layers: 8}\n", {"model.<<: unknown key"}},
    {"model: &m\n  ssd: *m\n", {"nested too deeply or too large"}},
    // Types.
    {"model:\n  num_layers: many\n", {"c.yaml:7: model.num_layers: expected integer from 1", "got 'many'"}},
    {"model: {num_layers: 8.0}\n", {"model.num_layers: expected integer", "got '8.0'; write all digits"}},
    {"model: {vocab_size: 1e3}\n", {"model.vocab_size: expected integer", "got '1e3'; write all digits"}},
    {"model: {num_layers: 010}\n", {"model.num_layers: expected integer", "got '010'"}},
    {"model: {num_layers: 0x8}\n", {"model.num_layers: expected integer", "got '0x8'"}},
    {"model: {num_layers: '8'}\n", {"model.num_layers: expected integer", "got the text '8'"}},
    {"model: {num_layers: [8]}\n", {"model.num_layers: expected integer", "got a list"}},
    {"model: {num_layers: }\n", {"model.num_layers: expected integer", "got 'null'"}},
    {"model: {num_layers: !!int 8}\n", {"YAML tags such as tag:yaml.org,2002:int"}},
    {"model: {num_layers: 99999999999999999999}\n", {"model.num_layers: expected integer from 1 to 10000"}},
    {"model: {tie_word_embeddings: yes}\n", {"model.tie_word_embeddings: expected true or false, got 'yes'"}},
    {"model: {tie_word_embeddings: True}\n", {"expected true or false, got 'True'"}},
    {"model: {tie_word_embeddings: 1}\n", {"expected true or false, got '1'"}},
    {"model: {tie_word_embeddings: 'true'}\n", {"expected true or false, got the text 'true'"}},
    {"model: {residual: none}\n", {"model.residual: expected learned | plain, got 'none'"}},
    {"model: 5\n", {"c.yaml:6: model: expected keys (vocab_size, ", "got '5'"}},
    {"model:\nlogging: {every: 1}\n", {"c.yaml:6: model: expected keys", "got 'null'"}},
    {"optimizer: {lr: fast}\n", {"optimizer.lr: expected number in (0, 10], got 'fast'"}},
    {"optimizer: {lr: .nan}\n", {"optimizer.lr: expected number", "got '.nan'"}},
    {"optimizer: {lr: .inf}\n", {"optimizer.lr: expected number", "got '.inf'"}},
    {"optimizer: {lr: nan}\n", {"optimizer.lr: expected number", "got 'nan'"}},
    {"optimizer: {lr: 1e999}\n", {"optimizer.lr: expected number", "got '1e999'"}},
    {"optimizer: {type: sgd}\n", {"optimizer.type: expected adamw, got 'sgd'"}},
    {"model: {layers: {pattern: 8}}\n", {"model.layers.pattern: expected text, got '8'", "put it in quotes"}},
    {"model: {layers: {pattern: {}}}\n", {"model.layers.pattern: expected text, got a mapping"}},
    {"optimizer: {betas: 0.9}\n", {"optimizer.betas: expected list of 2 numbers in [0, 1), got '0.9'"}},
    {"optimizer: {betas: [0.9]}\n", {"optimizer.betas: expected list of 2 numbers", "got a list of 1"}},
    {"optimizer: {betas: []}\n", {"optimizer.betas: expected list of 2 numbers", "got a list of 0"}},
    {"validation: [1]\n", {"validation: expected keys (every, sequences), got a list"}},
    // Ranges.
    {"model: {num_layers: 0}\n", {"model.num_layers: expected integer from 1 to 10000, got '0'"}},
    {"model: {num_layers: -8}\n", {"model.num_layers: expected integer from 1 to 10000, got '-8'"}},
    {"optimizer: {lr: 0}\n", {"optimizer.lr: expected number in (0, 10], got '0'"}},
    {"optimizer: {lr: -2e-3}\n", {"optimizer.lr: expected number", "got '-2e-3'"}},
    {"optimizer: {betas: [0.9, 1.0]}\n", {"optimizer.betas[1]: expected", "in [0, 1), got '1.0'"}},
    {"schedule: {min_lr_ratio: 1.1}\n", {"schedule.min_lr_ratio: expected number from 0 to 1, got '1.1'"}},
    {"logging: {every: 0}\n", {"logging.every: expected integer from 1"}},
    {"kernels: {ssd: fast}\n", {"kernels.ssd: expected auto | reference, got 'fast'"}},
    {"validation: {every: -1}\n", {"validation.every: expected integer from 1"}},
    // YAML itself.
    {"model: {num_layers: 8\n", {"c.yaml:7: YAML syntax: ", "(column 1)"}},
    {"\tmodel: 8\n", {"YAML syntax: "}},
    {"model: *nothing\n", {"c.yaml:6: YAML syntax: "}},
    {"---\nmodel: {num_layers: 8}\n", {"several YAML documents"}},
    {"# \xff\n", {"c.yaml:6: not UTF-8 text"}},
    {"# \x01\n", {"c.yaml:6: not UTF-8 text"}},
};

}  // namespace

TEST_CASE("config: a bad file is refused with line, key and what is valid") {
  for (const BadFile& bad : kBadFiles) {
    const std::string message = refusal(kMinimal + std::string(bad.text));
    INFO(bad.text << " -> " << message);
    size_t at = 0;
    for (const std::string part : bad.parts) {
      INFO("expected: " << part);
      const size_t found = message.find(part, at);
      CHECK(found != std::string::npos);
      if (found != std::string::npos) at = found + part.size();
    }
    CHECK(message.find('\n') == std::string::npos);
  }
}

TEST_CASE("config: the minimal file loads with every default") {
  RunConfig expected;
  expected.train.run_dir = "runs/x";
  expected.data.tokenizer = "t.model";
  expected.data.train = {{"p", std::nullopt}};
  CHECK(load_text(kMinimal) == expected);
}

TEST_CASE("config: required fields, lists of sources and their keys are checked") {
  CHECK(refusal("data: {tokenizer: t, train: [{path: p}]}\n").find("train.run_dir: is required") !=
        std::string::npos);
  CHECK(refusal("train: {run_dir: r}\n").find("data.train: is required") != std::string::npos);
  const auto with_data = [](const std::string& data) {
    return refusal("train: {run_dir: r}\ndata: " + data + "\n");
  };
  CHECK(with_data("{tokenizer: t, train: [{weight: 1}]}").find("c.yaml:2: data.train[0].path: is required") !=
        std::string::npos);
  CHECK(with_data("{tokenizer: t, train: [{path: p, wieght: 1}]}")
            .find("data.train[0].wieght: unknown key. Did you "
                  "mean weight?") != std::string::npos);
  CHECK(with_data("{tokenizer: t, train: [{path: p, weight: 0}]}")
            .find("weight: expected number > 0, got '0'") != std::string::npos);
  CHECK(with_data("{tokenizer: t, train: p}").find("data.train: expected list of {path, weight}, got 'p'") !=
        std::string::npos);
  CHECK(
      with_data("{tokenizer: t, train: [p]}").find("data.train[0]: expected keys (path, weight), got 'p'") !=
      std::string::npos);
}

TEST_CASE("config: numbers and text in their usual spellings are read") {
  const auto lr = [](const std::string& text) {
    return load_text(kMinimal + ("optimizer: {lr: " + text + "}\n")).optimizer.lr;
  };
  CHECK(lr("2e-3") == 2e-3);
  CHECK(lr("2.0E-3") == 2e-3);
  CHECK(lr("+.002") == 2e-3);
  CHECK(lr("1") == 1.0);
  const RunConfig config = load_text(
      "train: {run_dir: 'true', seed: 18446744073709551615}\n"
      "data: {tokenizer: \"größe \\\"x\\\"\", train: [{path: p}]}\n");
  CHECK(config.train.run_dir == "true");
  CHECK(config.train.seed == std::numeric_limits<uint64_t>::max());
  CHECK(config.data.tokenizer == "größe \"x\"");
}

TEST_CASE("config: a file that cannot be read is refused by name") {
  const TempFolder folder;
  const auto message = [](const std::filesystem::path& file) {
    return input_error_of([&] { load_config(file); });
  };
  CHECK(message(folder / "none.yaml").find("none.yaml: cannot open the configuration: No such file") !=
        std::string::npos);
  CHECK(message(folder.path()).find("is a folder") != std::string::npos);
  CHECK(refusal("").find("c.yaml: is empty") != std::string::npos);
  CHECK(refusal("# only a comment\n").find("is empty") != std::string::npos);
  CHECK(refusal("just text\n").find("expected `key: value` sections") != std::string::npos);
  CHECK(refusal("- a\n- b\n").find("expected `key: value` sections") != std::string::npos);
  CHECK(message("/dev/zero").find("larger than 4 MiB") != std::string::npos);
  std::ofstream(folder / "locked.yaml") << kMinimal;
  std::filesystem::permissions(folder / "locked.yaml", std::filesystem::perms::none);
  CHECK(in_child([&] {
          become_ordinary_user();
          return message(folder / "locked.yaml").find("Permission denied") != std::string::npos ? 0 : 1;
        }) == 0);
}

TEST_CASE("config: variables are expanded in paths only, and must be set") {
  ::setenv("TRANSXSSM_TEST_DIR", "/disk", 1);
  ::setenv("TRANSXSSM_TEST_AGAIN", "${HOME}", 1);
  ::unsetenv("TRANSXSSM_TEST_UNSET");
  const auto with = [](const std::string& run_dir) {
    return "train: {run_dir: '" + run_dir +
           "'}\ndata: {tokenizer: '${TRANSXSSM_TEST_DIR}/t', train: [{path: " +
           "'a${TRANSXSSM_TEST_DIR}$'}], validation: [{name: v, path: '${TRANSXSSM_TEST_DIR}'}]}\n";
  };
  const RunConfig config = load_text(with("${TRANSXSSM_TEST_DIR}/r${TRANSXSSM_TEST_DIR}"));
  CHECK(config.train.run_dir == "/disk/r/disk");
  CHECK(config.data.tokenizer == "/disk/t");
  CHECK(config.data.train.at(0).path == "a/disk$");
  CHECK(config.data.validation.at(0).path == "/disk");
  CHECK(refusal(with("${TRANSXSSM_TEST_UNSET}"))
            .find("c.yaml:1: train.run_dir: the environment variable TRANSXSSM_TEST_UNSET is not set") !=
        std::string::npos);
  CHECK(refusal(with("${}")).find("expected ${NAME}") != std::string::npos);
  CHECK(refusal(with("${HOME")).find("expected ${NAME}") != std::string::npos);
  CHECK(refusal(with("${TRANSXSSM_TEST_AGAIN}")).find("left after expansion") != std::string::npos);
  CHECK(
      refusal(kMinimal + std::string("model: {layers: {pattern: '${HOME}'}}\n")).find("expected letters S") !=
      std::string::npos);
}
