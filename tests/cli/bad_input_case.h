// One case of bad input: the command, what it must say, and that nothing else changed.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "config/load.h"
#include "core/atomic_file.h"
#include "support/catch.h"
#include "support/run_program.h"
#include "support/source_dir.h"
#include "support/tiny_run.h"

namespace transxssm::test {

namespace fs = std::filesystem;

using Words = std::vector<std::string>;
using Setup = std::function<void(const fs::path&)>;

struct Case {
  std::string name;
  std::string arguments;  // separated by spaces
  Words says;             // all of it on stderr
  Setup set_up = {};      // in the folder, beside run.yaml and the shards `train` and `validation`
};

inline constexpr int kBadInput = 2;
inline const Words kRunFolders{"run", "second"};  // may be made, and say in status.json what was wrong

inline Setup file(const std::string& name, const std::string& content) {
  return [=](const fs::path& folder) { write(folder / name, content); };
}

// run.yaml with `from` replaced.
inline Setup edited(const std::string& from, const std::string& to) {
  return [=](const fs::path& folder) {
    std::string yaml = read_file(folder / "run.yaml");
    const size_t at = yaml.find(from);
    REQUIRE(at != std::string::npos);
    write(folder / "run.yaml", yaml.replace(at, from.size(), to));
  };
}

inline std::string train(const std::string& more = "") { return "train --config run.yaml " + more; }

inline std::string prepare(const std::string& input_and_more) {
  return "data prepare --tokenizer tok.model --output corpus --input " + input_and_more;
}

// A tokenizer of 400 pieces; trained once.
inline void add_tokenizer(const fs::path& folder) {
  static const TempFolder kept;
  const fs::path model = kept / "tok.model";
  if (!fs::exists(model)) {
    const Ended ended =
        run_program(kept.path(), {"tokenizer", "train", "--input", (kSourceDir / "LICENSE").string(),
                                  "--model-prefix", "tok", "--vocab-size", "400", "--threads", "1"});
    INFO(ended.err);
    REQUIRE(ended.code == 0);
  }
  fs::copy_file(model, folder / "tok.model");
}

inline Setup text_file(const std::string& name, const std::string& content) {
  return [=](const fs::path& folder) {
    add_tokenizer(folder);
    write(folder / name, content);
  };
}

// Two steps of run.yaml, with a checkpoint of the second in run/.
inline void add_checkpoint(const fs::path& folder) {
  const Ended ended = run_program(folder, words(train("--set train.max_steps=2")));
  INFO(ended.err);
  REQUIRE(ended.code == 0);
  REQUIRE(fs::exists(folder / "run/checkpoints/step_00000002/manifest.json"));
}

inline void add_checkpoint_and_tokenizer(const fs::path& folder) {
  add_checkpoint(folder);
  add_tokenizer(folder);
}

inline void add_damaged_checkpoint(const fs::path& folder) {
  add_checkpoint(folder);
  for (const auto& entry : fs::recursive_directory_iterator(folder / "run/checkpoints/step_00000002")) {
    if (entry.path().extension() != ".safetensors") continue;
    std::string bytes = read_file(entry.path());
    bytes.back() ^= 1;
    write(entry.path(), bytes);
    return;
  }
  FAIL("the checkpoint has no tensors");
}

inline void check(
    const Case& c, const Words& may_change = {}, const std::function<void()>& in_child = [] {}) {
  INFO("case: " << c.name);
  const TinyRun run;
  RunConfig config = run.config();
  config.train.run_dir = "run";
  config.data.train = {{"train", std::nullopt}};
  config.data.validation.clear();
  write(run.folder / "run.yaml", to_yaml(config));
  if (c.set_up) c.set_up(run.folder.path());
  const auto before = contents(run.folder.path());
  const Ended ended = run_program(run.folder.path(), words(c.arguments), in_child);
  INFO("stderr: " << ended.err);
  REQUIRE(ended.code == kBadInput);
  for (const std::string& part : c.says) {
    INFO("expected: " << part);
    REQUIRE(contains(ended.err, part));
  }
  REQUIRE_FALSE(contains(ended.err, "frame #"));
  REQUIRE(changes(before, contents(run.folder.path()), may_change) == Words{});
}

inline void check_all(const std::vector<Case>& cases, const Words& may_change = {}) {
  for (const Case& c : cases) check(c, may_change);
}

}  // namespace transxssm::test
