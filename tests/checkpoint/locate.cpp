// Whatever happened to the newest checkpoint, the newest whole one is found and the others are explained.
#include "checkpoint/locate.h"

#include "checkpoint/reader.h"
#include "checkpoint_case.h"
#include "core/atomic_file.h"

using namespace transxssm;
using namespace transxssm::test;
namespace fs = std::filesystem;

namespace {

struct Damage {
  std::string name;
  void (*inflict)(const fs::path& step_folder);
  std::string reason;  // part of what is reported
};

const Damage kDamages[] = {
    {"no manifest", [](const fs::path& f) { fs::remove(f / "manifest.json"); }, "no manifest.json"},
    {"torn manifest",
     [](const fs::path& f) { fs::resize_file(f / "manifest.json", fs::file_size(f / "manifest.json") / 2); },
     "manifest"},
    {"flipped bit in the manifest", [](const fs::path& f) { flip_byte(f / "manifest.json", 40); },
     "manifest"},
    {"empty manifest", [](const fs::path& f) { fs::resize_file(f / "manifest.json", 0); }, "manifest"},
    {"no shard", [](const fs::path& f) { fs::remove(first_shard(f)); }, "tensor bias"},
    {"torn shard",
     [](const fs::path& f) { fs::resize_file(first_shard(f), fs::file_size(first_shard(f)) - 1); },
     "tensor bias"},
    {"empty shard", [](const fs::path& f) { fs::resize_file(first_shard(f), 0); }, "tensor bias"},
    {"flipped bit in a tensor", [](const fs::path& f) { flip_byte(first_shard(f), 5); }, "tensor weight"},
    {"another step's folder",
     [](const fs::path& f) {
       fs::remove_all(f);
       fs::copy(f.parent_path() / "step_00000010", f);
     },
     "that of step 10"},
    {"a save that did not end",
     [](const fs::path& f) { fs::rename(f, f.parent_path() / concat(".tmp-", f.filename().string())); }, ""},
};

}  // namespace

TEST_CASE("locate: a damaged newest checkpoint is skipped, explained, and the one before is chosen") {
  for (const Damage& damage : kDamages) {
    INFO(damage.name);
    const TempFolder run;
    Checkpointer saver(run / "checkpoints", {});
    saver.save(5, small_state(5), {});
    saver.save(10, small_state(10), {});
    damage.inflict(saver.save(20, small_state(20), {}));
    const LatestCheckpoint latest = find_latest_valid(run.path());
    REQUIRE(latest.folder == run / "checkpoints/step_00000010");
    require_same(CheckpointReader(*latest.folder).load(), small_state(10));
    if (damage.reason.empty()) {
      REQUIRE(latest.skipped.empty());
    } else {
      REQUIRE(latest.skipped.size() == 1);
      INFO(latest.skipped[0].problem);
      REQUIRE(latest.skipped[0].step == 20);
      REQUIRE(latest.skipped[0].problem.find(damage.reason) != std::string::npos);
    }
  }
}

TEST_CASE("locate: damage to an older checkpoint does not matter") {
  const TempFolder run;
  Checkpointer saver(run / "checkpoints", {});
  fs::remove(saver.save(5, small_state(5), {}) / "manifest.json");
  flip_byte(first_shard(saver.save(10, small_state(10), {})), 5);
  saver.save(20, small_state(20), {});
  const LatestCheckpoint latest = find_latest_valid(run.path());
  REQUIRE(latest.folder == run / "checkpoints/step_00000020");
  REQUIRE(latest.skipped.empty());
}

TEST_CASE("locate: a run, its checkpoints folder, a step and `latest` all lead to a step folder") {
  const TempFolder run;
  Checkpointer saver(run / "checkpoints", {});
  saver.save(10, small_state(10), {});
  saver.save(20, small_state(20), {});
  const fs::path canonical = fs::canonical(run.path()) / "checkpoints";
  REQUIRE(resolve_checkpoint(run.path()) == canonical / "step_00000020");
  REQUIRE(resolve_checkpoint(run / "checkpoints") == canonical / "step_00000020");
  REQUIRE(resolve_checkpoint(run / "checkpoints/.") == canonical / "step_00000020");
  REQUIRE(resolve_checkpoint(run / "latest") == canonical / "step_00000020");
  REQUIRE(resolve_checkpoint(run / "latest/") == canonical / "step_00000020");
  REQUIRE(resolve_checkpoint(run / "checkpoints/latest") == canonical / "step_00000020");
  REQUIRE(resolve_checkpoint(run / "checkpoints/step_00000010") == canonical / "step_00000010");
  REQUIRE(resolve_checkpoint(run / "checkpoints/step_00000010/") == canonical / "step_00000010");
  const int code = in_child([&] {  // of paths without a parent
    fs::current_path(run / "checkpoints");
    const bool found = resolve_checkpoint(".") == canonical / "step_00000020" &&
                       resolve_checkpoint("latest") == canonical / "step_00000020";
    fs::current_path(run.path());
    return found && resolve_checkpoint("latest") == canonical / "step_00000020" ? 7 : 1;
  });
  REQUIRE(code == 7);
  fs::remove_all(run / "checkpoints/step_00000020");  // the link leads nowhere
  REQUIRE(resolve_checkpoint(run / "checkpoints/latest") == canonical / "step_00000010");
  fs::remove(run / "checkpoints/latest");
  REQUIRE(resolve_checkpoint(run / "checkpoints/latest") == canonical / "step_00000010");
}

TEST_CASE("locate: no checkpoint, only damaged ones, files and missing paths are bad input") {
  const TempFolder run;
  write_file_atomically(run / "file", "x");
  for (const std::string name : {"missing", "missing/latest", "file", ".", "latest"}) {
    INFO(name);
    REQUIRE_FALSE(input_error_of([&] { resolve_checkpoint(run / name); }).empty());
  }
  REQUIRE_FALSE(find_latest_valid(run / "missing").folder);
  Checkpointer saver(run / "checkpoints", {});
  fs::remove(saver.save(5, small_state(5), {}) / "manifest.json");
  REQUIRE(input_error_of([&] { resolve_checkpoint(run.path()); }).find("1 are damaged") != std::string::npos);
  const LatestCheckpoint latest = find_latest_valid(run.path());
  REQUIRE_FALSE(latest.folder);
  REQUIRE(latest.skipped.size() == 1);
}
