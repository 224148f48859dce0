// Ranks that write one checkpoint side by side: all of it, or the one before stays the newest.
#include <csignal>
#include <fstream>

#include <sys/resource.h>

#include "checkpoint/checkpoint_case.h"
#include "checkpoint/reader.h"
#include "distributed/forked_ranks.h"

namespace transxssm::test {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kTimeout{1000};

StateDict whole_state(int64_t seed) {
  StateDict state = small_state(seed);
  state.tensors["matrix"] = at::arange(seed, seed + 3001 * 7, at::kFloat).view({3001, 7});
  return state;
}

// "weight" in parts, which leave a rank without one where there are more than three; "matrix" in parts of
// awkward sizes; "bias" whole, on the last rank.
StateDict share_of(const StateDict& whole, int rank, int size) {
  StateDict state;
  state.values = whole.values;
  const auto cut = [&](const std::string& name, int64_t begin, int64_t end) {
    if (begin >= end) return;
    const at::Tensor& tensor = whole.tensors.at(name);
    state.tensors[name] = tensor.reshape(-1).narrow(0, begin, end - begin);
    state.parts[name] = {tensor.sizes().vec(), begin};
  };
  const int64_t elements = whole.tensors.at("matrix").numel();
  cut("matrix", elements * rank / size, elements * (rank + 1) / size);
  if (rank < 3) cut("weight", 1009 * rank / std::min(size, 3), 1009 * (rank + 1) / std::min(size, 3));
  if (rank == size - 1) state.tensors["bias"] = whole.tensors.at("bias");
  return state;
}

TEST_CASE("ranks save side by side, and any part of it can be read") {
  for (const int size : {2, 4}) {
    const TempFolder run;
    const StateDict state = whole_state(3);
    const auto errors = errors_of_ranks(size, [&](Mesh& mesh) {
      Checkpointer saver(run / "checkpoints", {1, 0}, mesh, /*max_shard_bytes=*/20'000);
      for (const int64_t step : {1, 2, 3})
        saver.save(step, share_of(state, mesh.rank(), size), {{"loss", 1}});
    });
    CHECK(errors == std::vector<std::string>(static_cast<size_t>(size)));
    CHECK(list_checkpoints(run.path()).size() == 1);
    const CheckpointReader reader(run / "checkpoints/step_00000003");
    CHECK(reader.manifest().tensors.at("matrix").pieces.size() == static_cast<size_t>(size));
    require_same(reader.load(), state);
    const at::Tensor flat = state.tensors.at("matrix").reshape(-1);
    for (const int64_t first : {0, 5000, 7001})
      CHECK(same_bytes(reader.read("matrix", {first, 9000}), flat.narrow(0, first, 9000)));
  }
}

// Saves without end; the first rank writes each finished step to a file.
void save_forever(Mesh& mesh, const TempFolder& run, int64_t first) {
  Checkpointer saver(run / "checkpoints", {2, 50}, mesh);
  std::ofstream reported(run / "reported", std::ios::app);
  mesh.barrier();
  mesh.set_timeout(kTimeout);
  for (int64_t step = first;; ++step) {
    saver.save(step, share_of(whole_state(step), mesh.rank(), mesh.size()), {});
    if (mesh.is_first()) reported << step << std::endl;
  }
}

int64_t last_reported(const TempFolder& run) {
  std::ifstream in(run / "reported");
  int64_t last = 0;
  for (int64_t step; in >> step;) last = step;
  return last;
}

TEST_CASE("kill -9 of a rank in a save leaves the newest checkpoint valid, and ends the others") {
  const TempFolder run;
  for (int round = 0; round < 6; ++round) {
    const int64_t before = last_reported(run);
    RunningRanks running(3, [&](Mesh& mesh) { save_forever(mesh, run, before + 1); });
    while (last_reported(run) == before) ::usleep(1000);
    ::usleep(static_cast<useconds_t>(round * 37 % 20 * 1500));
    const auto killed = static_cast<size_t>(round % 3);
    ::kill(running[killed].process(), SIGKILL);
    for (size_t rank = 0; rank < 3; ++rank) {
      if (rank == killed) continue;
      const std::string said = running[rank].wait();
      CAPTURE(round, rank, said);
      CHECK(running[rank].exit_code() == 1);
      if (killed > 0 && rank == 0) CHECK(said.find(concat("rank ", killed, " on ")) != std::string::npos);
    }
    const LatestCheckpoint latest = find_latest_valid(run.path());
    REQUIRE(latest.folder);
    const CheckpointReader reader(*latest.folder);
    CHECK(reader.manifest().step >= last_reported(run));
    require_same(reader.load(), whole_state(reader.manifest().step));
  }
}

TEST_CASE("a disk that is full for one rank is an error of all, and nothing is left of the save") {
  const TempFolder run;
  const auto errors = errors_of_ranks(3, [&](Mesh& mesh) {
    Checkpointer saver(run / "checkpoints", {}, mesh);
    saver.save(1, share_of(whole_state(1), mesh.rank(), 3), {});
    if (mesh.rank() == 1) {
      ::signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{2000, 2000};
      ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    saver.save(2, share_of(whole_state(2), mesh.rank(), 3), {});
  });
  CAPTURE(errors[0]);
  CHECK(errors[0].find("rank 1 on ") != std::string::npos);
  CHECK(errors[0].find("step 2 is not saved, earlier ones are untouched") != std::string::npos);
  CHECK((errors[0] == errors[1] && errors[1] == errors[2]));
  CHECK(std::distance(fs::directory_iterator(run / "checkpoints"), {}) == 2);  // step 1 and `latest`
  require_same(CheckpointReader(*find_latest_valid(run.path()).folder).load(), whole_state(1));
}

TEST_CASE("ranks look for damage together") {
  const TempFolder run;
  const auto errors = errors_of_ranks(3, [&](Mesh& mesh) {
    Checkpointer saver(run / "checkpoints", {}, mesh);
    for (const int64_t step : {1, 2}) saver.save(step, share_of(whole_state(step), mesh.rank(), 3), {});
    if (mesh.is_first()) flip_byte(run / "checkpoints/step_00000002/shard-00002-00001.safetensors", 5);
    mesh.barrier();
    const std::string found = with_shared_checks(
        mesh, [&](const DamageOf& damage) { return find_latest_valid(run.path(), damage).folder->string(); });
    expect(found == (run / "checkpoints/step_00000001").string(), found);
  });
  CHECK(errors == std::vector<std::string>(3));
}

}  // namespace
}  // namespace transxssm::test
