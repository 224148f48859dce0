// transxssm export: what it refuses, and that a refusal leaves nothing behind.
#include <cmath>

#include <nlohmann/json.hpp>

#include "cli/bad_input_case.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

void train_run(const fs::path& folder) {
  REQUIRE(run_program(folder, words(train("--set train.max_steps=2"))).code == 0);
}

void train_without_tokenizer(const TinyRun& run) {
  RunConfig config = run.config();
  config.train.run_dir = "run";
  write(run.folder / "run.yaml", to_yaml(config));
  train_run(run.folder.path());
}

fs::path weights(const fs::path& folder) {
  return folder / "run/checkpoints/step_00000002/shard-00000-00001.safetensors";
}

// A trained run, then something else.
Setup trained(const Setup& more = [](const fs::path&) {}) {
  return [=](const fs::path& folder) {
    train_run(folder);
    more(folder);
  };
}

// A run of the program that succeeds.
void done(const TinyRun& run, const std::string& arguments) {
  const Ended ended = run_program(run.folder.path(), words(arguments));
  INFO(arguments << '\n' << ended.err);
  REQUIRE(ended.code == 0);
}

// A small tokenizer of transformers whose EOS has the id `eos`.
void add_foreign_tokenizer(const fs::path& folder, int eos, int words_more = 10) {
  fs::create_directories(folder);
  nlohmann::json vocabulary = {{"<s>", 1}, {"</s>", eos}, {"<pad>", 3}};
  for (int i = 0; i < words_more; ++i) vocabulary[concat("w", i)] = 4 + i;
  write(folder / "tokenizer.json", nlohmann::json{{"model", {{"vocab", vocabulary}}}}.dump());
  write(folder / "tokenizer_config.json",
        R"({"tokenizer_class": "GPT2Tokenizer", "bos_token": {"content": "<s>"}, "eos_token": "</s>"})");
  write(folder / "special_tokens_map.json", R"({"eos_token": "w1", "pad_token": "<pad>"})");
  write(folder / "merges.txt", "#version: 0.2\n");
}

Setup trained_with_foreign(int eos, int words_more = 10) {
  return trained([=](const fs::path& folder) { add_foreign_tokenizer(folder / "foreign", eos, words_more); });
}

const std::string kExport = "export --checkpoint run --to out ";

}  // namespace

TEST_CASE("export: bad command lines and places") {
  check_all({
      {"no checkpoint", "export --to out", {"transxssm export: --checkpoint is required"}},
      {"no place", "export --checkpoint run", {"transxssm export: --to is required"}},
      {"no such dtype", kExport + "--dtype fp8", {"--dtype", "bf16", "fp16", "fp32"}},
      {"unknown flag", kExport + "--dtpye fp32", {"unknown option --dtpye. Did you mean --dtype?"}},
      {"missing run", kExport, {"no checkpoint at run: it does not exist"}},
      {"file", "export --checkpoint run.yaml --to out", {"run.yaml", "it is a file"}},
      {"folder of something else", "export --checkpoint . --to out", {"no valid checkpoint in ."}},
      {"place taken", "export --checkpoint run --to train.idx", {"train.idx exists already"}},
      {"place not empty", kExport, {"out exists already"}, trained([](const fs::path& folder) {
         fs::create_directory(folder / "out");
         write(folder / "out/mine", "kept");
       })},
      {"missing tokenizer", kExport + "--tokenizer no.model", {"no.model"}, trained()},
      {"no tokenizer files",
       kExport + "--tokenizer run",
       {"run: has no tokenizer.json or tokenizer_config.json"},
       trained()},
      {"another EOS",
       kExport + "--tokenizer foreign",
       {"foreign: the tokenizer's EOS is 5, the model's 2"},
       trained_with_foreign(5)},
      {"somebody else's larger tokenizer",
       kExport + "--tokenizer foreign",
       {"foreign: the token \"w57\" has the id 61, the model only 61 embeddings"},
       trained_with_foreign(2, 58)},
      {"larger tokenizer",
       kExport + "--tokenizer tok.model",
       {"the tokenizer has 400 pieces, the model only 61"},
       trained(add_tokenizer)},
  });
}

TEST_CASE("export: damaged checkpoints") {
  check_all({
      {"truncated",
       kExport,
       {"no valid checkpoint in run", "is skipped"},
       trained([](const fs::path& folder) { fs::resize_file(weights(folder), 9000); })},
      {"step by name, changed byte",
       "export --checkpoint run/checkpoints/step_00000002 --to out",
       {"checksum"},
       trained([](const fs::path& folder) {
         std::string bytes = read_file(weights(folder));
         for (size_t i = bytes.size() / 3; i < bytes.size(); i += 64)
           bytes[i] = static_cast<char>(bytes[i] ^ 4);
         write(weights(folder), bytes);
       })},
      {"no manifest",
       "export --checkpoint run/checkpoints/step_00000002 --to out",
       {"manifest.json"},
       trained([](const fs::path& folder) { fs::remove(weights(folder).parent_path() / "manifest.json"); })},
  });
}

TEST_CASE("export: damaged exported folders") {
  const auto exported = [](const std::string& from, const std::string& to) {
    return trained([=](const fs::path& folder) {
      REQUIRE(run_program(folder, words("export --checkpoint run --to hf")).code == 0);
      std::string config = read_file(folder / "hf/config.json");
      const size_t at = config.find(from);
      REQUIRE(at != std::string::npos);
      write(folder / "hf/config.json", config.replace(at, from.size(), to));
    });
  };
  const std::string again = "export --checkpoint hf --to out";
  check_all({
      {"another size",
       again,
       {"hf: tensor", "has the shape"},
       exported("\"hidden_size\": 32", "\"hidden_size\": 30")},
      {"impossible size",
       again,
       {"hf/config.json describes no valid model", "model.ssd.num_groups"},
       exported("\"ssd_num_groups\": 2", "\"ssd_num_groups\": 3")},
      {"out of range",
       again,
       {"hf/config.json describes no valid model", "model.hidden_size"},
       exported("\"hidden_size\": 32", "\"hidden_size\": 0")},
      {"an id that is none",
       again,
       {"hf/config.json: eos_token_id is 18446744073709551615; valid are null and 0 to 60"},
       exported("\"eos_token_id\": ", "\"eos_token_id\": 18446744073709551615, \"was\": ")},
      {"an id without embedding",
       again,
       {"hf/config.json: pad_token_id is 61; valid are null and 0 to 60"},
       exported("\"pad_token_id\": null", "\"pad_token_id\": 61")},
      {"an id in words",
       again,
       {"hf/config.json: bos_token_id is \"<s>\"; valid are null and 0 to 60"},
       exported("\"bos_token_id\": null", "\"bos_token_id\": \"<s>\"")},
      {"a size that is none",
       again,
       {"hf/config.json: num_hidden_layers is 18446744073709551615"},
       exported("\"num_hidden_layers\": ", "\"num_hidden_layers\": 18446744073709551615, \"was\": ")},
      {"another architecture",
       again,
       {"model_type"},
       exported("\"model_type\": \"TransXSSM\"", "\"model_type\": \"bert\"")},
  });
}

TEST_CASE("export: a run without a tokenizer, its step, its export") {
  const TinyRun run;
  train_without_tokenizer(run);
  for (const std::string from :
       {"run", "run/checkpoints", "run/latest", "run/checkpoints/latest", "run/checkpoints/step_00000002"}) {
    CAPTURE(from);
    const std::string to = concat("made/from-", from.size());
    const Ended ended =
        run_program(run.folder.path(), words("export --dtype fp32 --checkpoint " + from + " --to " + to));
    INFO(ended.err);
    REQUIRE(ended.code == 0);
    REQUIRE(contains(ended.out, "TransXSSMForCausalLM"));
    REQUIRE(contains(ended.err, "the folder gets no tokenizer"));
    const auto report = nlohmann::json::parse(read_file(run.folder / (to + "/parity.json")));
    REQUIRE(report["parity"]["greedy_agreement"] == 1.0);
  }
  // The export of an export has the same bytes.
  REQUIRE(
      run_program(run.folder.path(), words("export --dtype fp32 --checkpoint made/from-3 --to again")).code ==
      0);
  REQUIRE(changes(contents(run.folder / "again"), contents(run.folder / "made/from-3"), {}) == Words{});
}

TEST_CASE("import: the folder's export has the same bytes, and training starts from either") {
  const TinyRun run;
  train_without_tokenizer(run);
  for (const std::string dtype : {"bf16", "fp16", "fp32"}) {
    CAPTURE(dtype);
    done(run, "export --checkpoint run --to hf-" + dtype + " --dtype " + dtype);
    done(run, "import --from hf-" + dtype + " --to imported-" + dtype);
    done(run, "export --checkpoint imported-" + dtype + " --to again-" + dtype + " --dtype " + dtype);
    REQUIRE(changes(contents(run.folder / ("again-" + dtype)), contents(run.folder / ("hf-" + dtype)), {}) ==
            Words{});
  }
  const std::string start = train("--set train.max_steps=1 --set train.run_dir=");
  const auto first_loss = [&](const std::string& name) {
    return metric_rows((run.folder / name).string()).front().at("loss").get<double>();
  };
  done(run, start + "from-run --init-from run");
  done(run, start + "from-import --init-from imported-fp32");
  done(run, start + "from-folder --init-from hf-fp32");
  done(run, start + "from-resume --resume hf-fp32");
  REQUIRE(first_loss("from-import") == first_loss("from-folder"));
  REQUIRE(first_loss("from-resume") == first_loss("from-folder"));
  REQUIRE(std::abs(first_loss("from-run") - first_loss("from-folder")) < 1e-5);
}

TEST_CASE("export and import: somebody else's tokenizer goes with the model") {
  const TinyRun run;
  train_without_tokenizer(run);
  add_foreign_tokenizer(run.folder / "foreign", 2);
  done(run, "export --checkpoint run --to hf --tokenizer foreign");
  for (const char* name : {"config.json", "generation_config.json"}) {
    CAPTURE(name);
    const auto config = nlohmann::json::parse(read_file(run.folder / "hf" / name));
    REQUIRE(config["bos_token_id"] == 1);
    REQUIRE(config["eos_token_id"] == 2);
    REQUIRE(config["pad_token_id"] == 3);
  }
  done(run, "import --from hf --to imported");
  REQUIRE(fs::exists(run.folder / "imported/tokenizer/merges.txt"));
  done(run, "export --checkpoint imported --to again");
  REQUIRE(changes(contents(run.folder / "again"), contents(run.folder / "hf"), {}) == Words{});
  done(run, "export --checkpoint hf --to third");
  REQUIRE(changes(contents(run.folder / "third"), contents(run.folder / "hf"), {}) == Words{});
  for (const std::string from : {"imported", "hf"}) {
    CAPTURE(from);
    done(run, train("--set train.max_steps=1 --set train.run_dir=from-" + from + " --init-from " + from));
    REQUIRE(fs::exists(run.folder / ("from-" + from) / "tokenizer/merges.txt"));
  }
}

TEST_CASE("train --init-from: the tokenizer goes with the weights, and another one is refused") {
  const TinyRun run;
  RunConfig config = run.config();
  config.model.vocab_size = 400;
  config.train.run_dir = "run";
  write(run.folder / "run.yaml", to_yaml(config));
  add_tokenizer(run.folder.path());
  const std::string eod = " --set data.eod_id=-1";
  done(run, train("--set train.max_steps=1 --set data.tokenizer=tok.model" + eod));
  done(run, "export --checkpoint run --to hf");
  const std::string once = "--set train.max_steps=1 --set train.run_dir=";
  for (const std::string from : {"run", "hf"}) {
    CAPTURE(from);
    const fs::path warm = run.folder / ("from-" + from);
    done(run, train(once + "from-" + from + " --init-from " + from));
    REQUIRE(read_file(warm / "tokenizer.model") == read_file(run.folder / "tok.model"));

    done(run, "tokenizer train --input " + (kSourceDir / "README.md").string() +
                  " --model-prefix other --vocab-size 380 --threads 1");
    const std::string other =
        train(once + "other-" + from + " --init-from " + from + " --set data.tokenizer=other.model");
    const Ended ended = run_program(run.folder.path(), words(other));
    REQUIRE(ended.code == kBadInput);
    REQUIRE(ended.err.find("--allow-change data.tokenizer") != std::string::npos);
    done(run, other + " --allow-change data.tokenizer");
  }
}

TEST_CASE("export: a folder with our tokenizer, or only its SentencePiece model, gives our class") {
  const TinyRun run;
  RunConfig config = run.config();
  config.model.vocab_size = 400;
  config.train.run_dir = "run";
  write(run.folder / "run.yaml", to_yaml(config));
  add_tokenizer(run.folder.path());
  train_run(run.folder.path());
  done(run, "export --checkpoint run --to hf --tokenizer tok.model");
  fs::create_directory(run.folder / "alone");
  fs::copy_file(run.folder / "tok.model", run.folder / "alone/tokenizer.model");
  for (const std::string from : {"hf", "alone"}) {
    CAPTURE(from);
    done(run, "export --checkpoint run --to by-" + from + " --tokenizer " + from);
    REQUIRE(changes(contents(run.folder / ("by-" + from)), contents(run.folder / "hf"), {}) == Words{});
  }
}

TEST_CASE("import: bad input") {
  const auto exported = trained([](const fs::path& folder) {
    REQUIRE(run_program(folder, words("export --checkpoint run --to hf")).code == 0);
  });
  check_all(
      {
          {"no folder", "import --from no --to imported", {"no is no exported folder"}},
          {"a run", "import --from run --to imported", {"run is no exported folder"}, trained()},
          {"into a run", "import --from hf --to run", {"run already has checkpoints"}, exported},
          {"resume into another model",
           train("--resume hf --set train.run_dir=second --set model.intermediate_size=64"),
           {"hf: tensor model.layers.0.feed_forward.gate_proj", "has the shape"},
           exported},
      },
      kRunFolders);
}
