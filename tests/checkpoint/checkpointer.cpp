// Saving and loading: equal bytes, shards of bounded size, failed saves that harm nothing.
#include "checkpoint/checkpointer.h"

#include <csignal>

#include <sys/resource.h>

#include "checkpoint/reader.h"
#include "checkpoint_case.h"
#include "core/atomic_file.h"

using namespace transxssm;
using namespace transxssm::test;
namespace fs = std::filesystem;

TEST_CASE("checkpointer: what was saved comes back with the same bytes and values") {
  const TempFolder folder;
  const StateDict state = sample_state();
  Checkpointer saver(folder / "run/checkpoints", {});
  const fs::path place = saver.save(1000, state, {{"loss", 3.25}, {"path", "\xff not UTF-8"}});
  REQUIRE(place == folder / "run/checkpoints/step_00001000");
  REQUIRE(fs::read_symlink(folder / "run/checkpoints/latest") == "step_00001000");
  const CheckpointReader reader(place);
  REQUIRE(reader.manifest().step == 1000);
  REQUIRE(reader.manifest().run.at("loss") == 3.25);
  require_same(reader.load(), state);
}

TEST_CASE("checkpointer: tensors are spread over shards that keep to their size") {
  const TempFolder folder;
  StateDict state;
  for (int i = 0; i < 11; ++i)
    state.tensors[concat("t", i)] = at::full({i % 3 == 0 ? 300 : 10}, i, at::kFloat);
  Checkpointer saver(folder.path(), {}, /*max_shard_bytes=*/1000);
  const fs::path place = saver.save(5, state, {});
  int shards = 0;
  for (const auto& item : fs::directory_iterator(place)) {
    if (item.path().extension() != ".safetensors") continue;
    ++shards;
    const SafetensorsFile file(item.path());
    uint64_t bytes = 0;
    for (const auto& [name, entry] : file.entries()) bytes += entry.size;
    REQUIRE((bytes <= 1000 || file.entries().size() == 1));
  }
  REQUIRE(shards > 3);
  require_same(CheckpointReader(place).load(), state);
}

TEST_CASE("checkpointer: any elements of a tensor can be read alone, and are checked") {
  const TempFolder folder;
  StateDict state;
  const int64_t count = static_cast<int64_t>(kChecksumBytes) / 4;  // elements of one checksum
  const at::Tensor values = at::arange(3 * count + 7, at::kInt);
  state.tensors["t"] = values.view({1, -1});
  Checkpointer saver(folder.path(), {});
  const fs::path place = saver.save(1, state, {});
  const CheckpointReader reader(place);
  REQUIRE(reader.manifest().tensors.at("t").pieces.at(0).checksums.size() == 4);
  for (const auto& [first, size] : std::vector<std::pair<int64_t, int64_t>>{{0, 1},
                                                                            {0, count},
                                                                            {1, count},
                                                                            {count - 1, 2},
                                                                            {count, count},
                                                                            {5, 3 * count},
                                                                            {3 * count, 7},
                                                                            {9, 0}}) {
    CAPTURE(first, size);
    REQUIRE(same_bytes(reader.read("t", {first, size}), values.narrow(0, first, size)));
  }
  const StateDict part = reader.load([](const std::string&) { return ElementRange{3 * count, 100}; });
  REQUIRE(same_bytes(part.tensors.at("t"), values.narrow(0, 3 * count, 7)));
  REQUIRE(part.parts.at("t").shape == std::vector<int64_t>{1, 3 * count + 7});
  REQUIRE(part.parts.at("t").first == 3 * count);

  flip_byte(first_shard(place), 100);  // in the third part, just before the last
  REQUIRE(same_bytes(reader.read("t", {0, 2 * count}), values.narrow(0, 0, 2 * count)));
  REQUIRE(input_error_of([&] {
            reader.read("t", {3 * count - 100, 1});
          }).find("checksum") != std::string::npos);
  int shares_with_damage = 0;
  for (size_t share = 0; share < 3; ++share)
    shares_with_damage += !input_error_of([&] { reader.verify(share, 3); }).empty();
  REQUIRE(shares_with_damage == 1);
}

TEST_CASE("checkpointer: a state without tensors is a checkpoint too") {
  const TempFolder folder;
  StateDict state;
  state.values = {{"a", 1}};
  Checkpointer saver(folder.path(), {});
  require_same(CheckpointReader(saver.save(0, state, {})).load(), state);
}

TEST_CASE("checkpointer: saving a step again replaces it, and the last save counts as newest") {
  const TempFolder folder;
  {
    Checkpointer saver(folder.path(), {});
    saver.save(10, small_state(1), {});
    saver.save(20, small_state(2), {});
  }
  Checkpointer resumed(folder.path(), {});  // from step 10, going another way
  resumed.save(15, small_state(3), {});
  REQUIRE(find_latest_valid(folder.path()).folder == folder / "step_00000015");
  resumed.save(20, small_state(4), {});
  REQUIRE(find_latest_valid(folder.path()).folder == folder / "step_00000020");
  require_same(CheckpointReader(folder / "step_00000020").load(), small_state(4));
  for (const auto& item : fs::directory_iterator(folder.path()))
    REQUIRE(item.path().filename().string().front() != '.');
}

TEST_CASE("checkpointer: what killed processes left is cleared, and a checkpoint moved aside comes back") {
  const TempFolder folder;
  Checkpointer(folder.path(), {}).save(10, small_state(1), {});
  fs::rename(folder / "step_00000010", folder / ".old-step_00000010");
  fs::create_directory(folder / ".tmp-step_00000020");
  write_file_atomically(folder / ".tmp-step_00000020/shard-00000-00001.safetensors", "half");
  Checkpointer saver(folder.path(), {});
  REQUIRE_FALSE(fs::exists(folder / ".tmp-step_00000020"));
  require_same(CheckpointReader(folder / "step_00000010").load(), small_state(1));
}

TEST_CASE("checkpointer: a save that the disk refuses leaves earlier checkpoints and nothing else") {
  const TempFolder folder;
  Checkpointer saver(folder.path(), {});
  saver.save(1, small_state(1), {});
  const int code = in_child([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{2000, 2000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string why = input_error_of([&] { saver.save(2, small_state(2), {}); });
    return why.find("step 2 is not saved, earlier ones are untouched") != std::string::npos ? 7 : 1;
  });
  REQUIRE(code == 7);
  REQUIRE(std::distance(fs::directory_iterator(folder.path()), {}) == 2);  // step 1 and `latest`
  require_same(CheckpointReader(resolve_checkpoint(folder / "latest")).load(), small_state(1));
}

TEST_CASE("checkpointer: a folder without the right to write is bad input") {
  const TempFolder folder;
  Checkpointer saver(folder / "checkpoints", {});
  fs::permissions(folder / "checkpoints", fs::perms::owner_read | fs::perms::owner_exec |
                                              fs::perms::others_read | fs::perms::others_exec);
  const int code = in_child([&] {
    become_ordinary_user();
    return input_error_of([&] { saver.save(1, small_state(1), {}); }).empty() ? 1 : 7;
  });
  REQUIRE(code == 7);
}
