// transxssm eval: what it prints, and what it refuses.
#include <cstring>

#include <nlohmann/json.hpp>

#include "cli/bad_input_case.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

const std::string kModel = "--set model.vocab_size=400 --set data.tokenizer=tok.model ";
const std::string kEval = "eval --checkpoint run ";
const std::string kGood = R"({"context": "This License", "continuations": [" applies", " and"], "label": 0})"
                          "\n";

// A run with a tokenizer, trained on two steps of text.
void train_on_text(const fs::path& folder) {
  add_tokenizer(folder);
  write(folder / "text.txt", read_file(kSourceDir / "LICENSE"));
  for (const std::string& command :
       {prepare("text.txt"),
        train(kModel + "--set train.max_steps=2 --set data.train=[{path:corpus/train}]")}) {
    Words arguments = words(command);
    for (std::string& word : arguments)
      if (word == "data.train=[{path:corpus/train}]") word = "data.train=[{path: corpus/train}]";
    const Ended ended = run_program(folder, arguments);
    INFO(ended.err);
    REQUIRE(ended.code == 0);
  }
}

Setup trained(const std::string& name = "", const std::string& content = "") {
  return [=](const fs::path& folder) {
    train_on_text(folder);
    if (!name.empty()) write(folder / name, content);
  };
}

void trained_beside_other_tokenizer(const fs::path& folder) {
  train_on_text(folder);
  const Ended ended = run_program(
      folder, words("tokenizer train --input text.txt --output other --vocab-size 390 --threads 1"));
  REQUIRE(ended.code == 0);
}

}  // namespace

TEST_CASE("eval: texts, token shards and tasks in one go, as JSON and as a table") {
  const TinyRun run;
  RunConfig config = run.config();
  config.train.run_dir = "run";
  config.data.validation.clear();
  write(run.folder / "run.yaml", to_yaml(config));
  train_on_text(run.folder.path());
  write(run.folder / "requests.jsonl", kGood + kGood);
  write(run.folder / "lambada.jsonl", "{\"text\": \"This License applies\"}\n");
  const std::string all =
      kEval + "--text text.txt --tokens corpus/train --requests requests.jsonl --lambada lambada.jsonl ";
  const Ended ended = run_program(run.folder.path(), words(all + "--json"));
  INFO(ended.err);
  REQUIRE(ended.code == 0);
  const auto json = nlohmann::json::parse(ended.out);
  REQUIRE(json["step"] == 2);
  REQUIRE(json["max_length"] == 24);
  const auto& results = json["results"];
  REQUIRE(results.size() == 4);
  REQUIRE(results[0]["kind"] == "lambada");
  REQUIRE(results[0]["acc_stderr"].is_null());
  REQUIRE(results[0]["perplexity"].get<double>() > 1);
  REQUIRE(results[1]["kind"] == "requests");
  REQUIRE(results[1]["questions"] == 2);
  REQUIRE(results[1]["tokens"].get<int64_t>() > 0);
  REQUIRE(results[1]["acc_norm_stderr"] == 0.0);
  // The shard was made of the text: same tokens, same loss.
  REQUIRE(results[2]["tokens"] == results[3]["tokens"]);
  REQUIRE(results[2]["loss"] == results[3]["loss"]);
  REQUIRE(results[2]["bytes"] == read_file(kSourceDir / "LICENSE").size());
  REQUIRE(results[2]["by_position"][0]["from"] == 1);
  REQUIRE_FALSE(contains(ended.err, "\r"));

  const Ended table = run_program(run.folder.path(), words(all));
  REQUIRE(table.code == 0);
  for (const std::string part : {"acc_norm", "bits_per_byte", "loss at 1 to 127", "2 questions"})
    REQUIRE(contains(table.out, part));
}

TEST_CASE("eval: a training run answers its tasks at every validation") {
  const TinyRun run;
  RunConfig config = run.config();
  config.train.run_dir = "run";
  config.data.validation.clear();
  config.data.tasks = {{"license", "requests.jsonl"}};
  config.validation.every = 1;
  write(run.folder / "run.yaml", to_yaml(config));
  write(run.folder / "requests.jsonl", kGood + kGood);
  train_on_text(run.folder.path());
  std::vector<nlohmann::json> rows;
  for (const auto& row : metric_rows((run.folder / "run").string()))
    if (row["kind"] == "task") rows.push_back(row);
  REQUIRE(rows.size() == 2);
  REQUIRE(rows[1]["set"] == "license");
  REQUIRE(rows[1]["step"] == 2);
  REQUIRE(rows[1]["acc_stderr"] == 0.0);
  const Ended ended = run_program(run.folder.path(), words(kEval + "--requests requests.jsonl --json"));
  REQUIRE(ended.code == 0);
  for (const char* measure : {"acc", "acc_norm", "acc_bytes"})
    REQUIRE(nlohmann::json::parse(ended.out)["results"][0][measure] == rows[1][measure]);

  const auto refuses = [&](const std::string& requests, const std::string& says) {
    if (!requests.empty()) write(run.folder / "requests.jsonl", requests);
    const Ended refused = run_program(run.folder.path(), words(train(kModel + "--set train.run_dir=second")));
    INFO(refused.err);
    REQUIRE(refused.code == kBadInput);
    REQUIRE(contains(refused.err, says));
  };
  refuses(kGood + "{}\n", "requests.jsonl:2: has no \"continuations\"");
  std::string long_text;
  for (int i = 0; i < 30; ++i) long_text += " zxqj";
  refuses(R"({"context": "a", "continuations": [")" + long_text + R"("], "label": 0})",
          "requests.jsonl:1: a continuation has");
  fs::remove(run.folder / "requests.jsonl");
  refuses("", "requests.jsonl: there is no such file");
  fs::create_directory(run.folder / "requests.jsonl");
  refuses("", "requests.jsonl: is a folder");
}

TEST_CASE("eval: bad command lines and files") {
  check_all({
      {"no checkpoint", "eval --text a.txt", {"transxssm eval: --checkpoint is required"}},
      {"nothing to do", kEval, {"nothing to evaluate", "--requests"}},
      {"missing tokenizer", kEval + "--tokens train --tokenizer no.model", {"no.model"}},
      {"questions before the model",
       "eval --checkpoint nowhere --requests r.jsonl",
       {"r.jsonl:2: is not JSON"},
       file("r.jsonl", kGood + "{")},
      {"texts before the model", "eval --checkpoint nowhere --text no.txt", {"no.txt"}},
      {"shards before the model", "eval --checkpoint nowhere --tokens none", {"none: no token files found"}},
      {"no tokenizer",
       kEval + "--text run.yaml",
       {"without a tokenizer: name one with --tokenizer"},
       add_checkpoint},
      {"larger tokenizer",
       kEval + "--tokens train --tokenizer tok.model",
       {"the tokenizer has 400 pieces, the model only 61"},
       add_checkpoint_and_tokenizer},
      {"missing shard", kEval + "--tokens nowhere", {"nowhere: no token files found"}, add_checkpoint},
  });
}

TEST_CASE("eval: bad questions") {
  check_all({
      {"missing requests", kEval + "--requests no.jsonl", {"no.jsonl: there is no such file"}, trained()},
      {"folder", kEval + "--requests run", {"run: is a folder; expected a file of JSON lines"}, trained()},
      {"missing text", kEval + "--text no.txt", {"no.txt"}, trained()},
      {"torn line",
       kEval + "--requests r.jsonl",
       {"r.jsonl:2: is not JSON"},
       trained("r.jsonl", kGood + "{\"context\": \"a")},
      {"too long",
       kEval + "--max-length 2 --requests r.jsonl",
       {"r.jsonl:1: a continuation has", "longest text of 2", "--max-length"},
       trained("r.jsonl", R"({"context": "a", "continuations": [" zxqj zxqj zxqj"], "label": 0})"
                          "\n")},
  });
}

TEST_CASE("eval: a model whose logits overflow is refused with the line") {
  const auto huge = [](const fs::path& folder) {
    train_on_text(folder);
    write(folder / "r.jsonl", kGood);
    REQUIRE(run_program(folder, words("export --checkpoint run --to hf --dtype fp32")).code == 0);
    std::string file = read_file(folder / "hf/model.safetensors");
    uint64_t header = 0;
    std::memcpy(&header, file.data(), sizeof header);
    const auto offsets = nlohmann::json::parse(
        file.substr(sizeof header, header))["model.final_layernorm.weight"]["data_offsets"];
    const float large = 3e38F;
    for (size_t at = offsets[0]; at < offsets[1]; at += sizeof large)
      std::memcpy(file.data() + sizeof header + header + at, &large, sizeof large);
    write(folder / "hf/model.safetensors", file);
  };
  const std::string on_folder = "eval --checkpoint hf --device cpu ";
  check_all({
      {"task", on_folder + "--requests r.jsonl", {"r.jsonl:1: the model's logits are not finite"}, huge},
      {"text", on_folder + "--text text.txt", {"text.txt:1: the model's logits are not finite"}, huge},
      {"shard",
       on_folder + "--tokens corpus/train",
       {": document 0: the model's logits are not finite"},
       huge},
  });
}

TEST_CASE("another tokenizer than the model's is refused by every command") {
  const auto exported_with_other = [](const fs::path& folder) {
    trained_beside_other_tokenizer(folder);
    REQUIRE(run_program(folder, words("export --checkpoint run --to hf --dtype fp32")).code == 0);
    fs::copy_file(folder / "other.model", folder / "hf/tokenizer.model",
                  fs::copy_options::overwrite_existing);
  };
  const std::string says = "not the one that the model was trained with";
  check_all({
      {"eval", kEval + "--text text.txt --tokenizer other.model", {says}, trained_beside_other_tokenizer},
      {"generate",
       "generate --checkpoint run --tokenizer other.model",
       {says},
       trained_beside_other_tokenizer},
      {"export",
       "export --checkpoint run --to hf --tokenizer other.model",
       {says},
       trained_beside_other_tokenizer},
      {"generate from a folder", "generate --checkpoint hf", {says}, exported_with_other},
      {"import", "import --from hf --to back", {says}, exported_with_other},
  });
}
