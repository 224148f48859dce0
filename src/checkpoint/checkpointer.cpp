#include "checkpoint/checkpointer.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include <fcntl.h>
#include <unistd.h>

#include "checkpoint/locate.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/tensor_store.h"
#include "core/atomic_file.h"
#include "core/check.h"
#include "core/clock.h"
#include "core/logging.h"
#include "parallel/agreement.h"

namespace transxssm {
namespace fs = std::filesystem;
namespace {

constexpr const char* kUnfinished = ".tmp-";  // never looked at by a reader
constexpr const char* kReplaced = ".old-";  // moved aside while a checkpoint of the same step takes its place

bool starts_with(const std::string& text, const std::string& prefix) { return text.rfind(prefix, 0) == 0; }

// Headers take about 150 bytes a tensor in a shard and 250 in the manifest; block rounding a page per file.
uint64_t space_needed(const StateDict& state) {
  constexpr uint64_t kPerTensor = 1024, kFixed = uint64_t{1} << 20;
  return total_bytes(state) + kPerTensor * state.tensors.size() + kFixed;
}

const Mesh& nobody_else() {
  static const Mesh alone = Mesh::single();
  return alone;
}

uint64_t bytes_of(const TensorRecords& tensors) {
  uint64_t sum = 0;
  for (const auto& [name, record] : tensors)
    sum += static_cast<uint64_t>(record.numel()) * c10::elementSize(safetensors_type(record.dtype));
  return sum;
}

void remove_unfinished(const fs::path& temporary) {
  std::error_code ignored;
  if (!temporary.empty()) fs::remove_all(temporary, ignored);
}

// Swaps two folders in one step; false where the file system can't.
bool exchange(const fs::path& a, const fs::path& b) {
  if (::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0) return true;
  if (errno == EINVAL || errno == ENOSYS || errno == ENOTSUP) return false;
  throw_file_error("cannot replace", b, errno);
}

}  // namespace

Checkpointer::Checkpointer(fs::path folder, Retention retention, const Mesh& mesh, uint64_t max_shard_bytes)
    : mesh_(mesh), folder_(std::move(folder)), retention_(retention), max_shard_bytes_(max_shard_bytes) {
  if (!mesh.is_first()) return;
  make_folders(folder_);
  clear_leftovers();
  for (const auto& entry : list_checkpoints(folder_))
    if (entry.manifest) next_save_index_ = std::max(next_save_index_, entry.manifest->save_index + 1);
}

Checkpointer::Checkpointer(fs::path folder, Retention retention, uint64_t max_shard_bytes)
    : Checkpointer(std::move(folder), retention, nobody_else(), max_shard_bytes) {}

void Checkpointer::clear_leftovers() const {
  std::vector<fs::path> found;
  for (const auto& item : fs::directory_iterator(folder_)) found.push_back(item.path());
  for (const fs::path& path : found) {
    const std::string name = path.filename().string();
    if (starts_with(name, kUnfinished)) {
      log_info(concat("clearing ", path.string(), ", left by a process that was killed"));
      fs::remove_all(path);
    } else if (starts_with(name, kReplaced)) {
      const fs::path place = folder_ / name.substr(std::char_traits<char>::length(kReplaced));
      if (fs::exists(place))
        fs::remove_all(path);
      else
        rename_durably(path, place);
    }
  }
}

fs::path Checkpointer::save(int64_t step, const StateDict& state, const nlohmann::json& run) {
  uint64_t space = 0;
  for (const std::string& needed : mesh_.exchange(std::to_string(space_needed(state))))
    space += std::stoull(needed);
  fs::path temporary;
  try {
    temporary = on_first(mesh_, [&] { return begin(step, space).string(); });
    const TensorRecords tensors = write_everything(temporary, state);
    on_first(mesh_, [&] {
      commit(temporary, {.step = step,
                         .save_index = next_save_index_,
                         .created = utc_time(),
                         .bytes = bytes_of(tensors),
                         .tensors = tensors,
                         .values = state.values,
                         .run = run});
      return "";
    });
  } catch (const InputError& error) {
    remove_unfinished(temporary);
    throw InputError(
        concat(error.what(), "; the checkpoint of step ", step, " is not saved, earlier ones are untouched"));
  } catch (...) {
    remove_unfinished(temporary);
    throw;
  }
  remove_old();
  return folder_ / step_folder_name(step);
}

// The folder to write to. No other save writes there, not even one of ranks that outlived their first.
fs::path Checkpointer::begin(int64_t step, uint64_t bytes) const {
  expect_free_space(folder_, bytes, concat("the checkpoint of step ", step));
  fs::path temporary = folder_ / concat(kUnfinished, step_folder_name(step), "-", ::getpid());
  fs::remove_all(temporary);
  make_folders(temporary);
  return temporary;
}

// What all ranks have written, on the first one.
TensorRecords Checkpointer::write_everything(const fs::path& temporary, const StateDict& state) const {
  TensorRecords own;
  agreed(mesh_, [&] {
    expect_input(fs::is_directory(temporary),
                 concat(temporary.string(),
                        ", made by the first rank, does not exist here: the run folder "
                        "must lie on a file system that all ranks share"));
    own = write_shards(temporary, state, mesh_.rank(), max_shard_bytes_);
    sync_folder(temporary);  // the shards' names, before the manifest that vouches for them
  });
  const auto texts = mesh_.exchange(to_json(own).dump());
  std::vector<TensorRecords> by_rank;
  if (mesh_.is_first())
    for (const std::string& text : texts) by_rank.push_back(tensors_from(nlohmann::json::parse(text)));
  return joined(by_rank);
}

void Checkpointer::commit(const fs::path& temporary, const Manifest& manifest) {
  write_file_atomically(temporary / kManifestName, manifest_text(manifest));
  const std::string name = step_folder_name(manifest.step);
  put_in_place(temporary, folder_ / name);
  next_save_index_ = manifest.save_index + 1;
  replace_link(folder_ / kLatest, name);
}

void Checkpointer::put_in_place(const fs::path& temporary, const fs::path& final_place) const {
  if (!fs::exists(final_place)) return rename_durably(temporary, final_place);
  if (exchange(temporary, final_place)) {
    sync_folder(folder_);
    fs::remove_all(temporary);
    return;
  }
  const fs::path aside = folder_ / concat(kReplaced, final_place.filename().string());
  rename_durably(final_place, aside);
  rename_durably(temporary, final_place);
  fs::remove_all(aside);
}

void Checkpointer::remove_old() {
  const std::string trouble =
      with_shared_checks(mesh_, [&](const DamageOf& damage) { return remove_old(damage); });
  if (mesh_.is_first() && !trouble.empty())
    log_warning(concat("old checkpoints could not be removed: ", trouble));
}

// On the first rank. Trouble here is no reason to stop a run whose state is safe: it is returned.
std::string Checkpointer::remove_old(const DamageOf& damage) {
  try {
    auto entries = list_checkpoints(folder_);
    if (static_cast<int64_t>(entries.size()) <= retention_.keep_last) return "";
    // Read back once in a process, from the page cache as a rule: this finds a bad save, not a dying disk.
    const auto damage_once = [&](const CheckpointEntry& entry) -> std::string {
      const auto known = verified_.find(entry.folder);
      if (known != verified_.end() && known->second == entry.manifest->save_index) return "";
      const std::string problem = damage(entry);
      if (problem.empty()) verified_[entry.folder] = entry.manifest->save_index;
      return problem;
    };
    const RetentionPlan plan = plan_retention(std::move(entries), retention_, damage_once);
    for (const auto& entry : plan.damaged)
      log_warning(
          concat("checkpoint ", entry.folder.string(), " is damaged and does not count: ", entry.problem));
    for (const auto& entry : plan.removed) {
      remove_checkpoint(entry.folder);
      verified_.erase(entry.folder);
    }
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace transxssm
