#include "checkpoint/checkpointer.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include <fcntl.h>

#include "checkpoint/tensor_store.h"
#include "core/atomic_file.h"
#include "core/check.h"
#include "core/clock.h"
#include "core/logging.h"

namespace transxssm {
namespace fs = std::filesystem;
namespace {

constexpr const char* kUnfinished = ".tmp-";  // never looked at by a reader
constexpr const char* kReplaced = ".old-";  // moved aside while a checkpoint of the same step takes its place
constexpr const char* kLatest = "latest";

bool starts_with(const std::string& text, const std::string& prefix) { return text.rfind(prefix, 0) == 0; }

// Headers take about 150 bytes a tensor in a shard and 250 in the manifest; block rounding a page per file.
uint64_t space_needed(const StateDict& state) {
  constexpr uint64_t kPerTensor = 1024, kFixed = uint64_t{1} << 20;
  return total_bytes(state.tensors) + kPerTensor * state.tensors.size() + kFixed;
}

// Swaps two folders in one step; false where the file system can't.
bool exchange(const fs::path& a, const fs::path& b) {
  if (::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0) return true;
  if (errno == EINVAL || errno == ENOSYS || errno == ENOTSUP) return false;
  throw_file_error("cannot replace", b, errno);
}

}  // namespace

Checkpointer::Checkpointer(fs::path folder, Retention retention, uint64_t max_shard_bytes)
    : folder_(std::move(folder)), retention_(retention), max_shard_bytes_(max_shard_bytes) {
  make_folders(folder_);
  clear_leftovers();
  for (const auto& entry : list_checkpoints(folder_))
    if (entry.manifest) next_save_index_ = std::max(next_save_index_, entry.manifest->save_index + 1);
}

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
  const fs::path place = folder_ / step_folder_name(step);
  const fs::path temporary = folder_ / concat(kUnfinished, step_folder_name(step));
  try {
    fs::remove_all(temporary);
    expect_free_space(folder_, space_needed(state), concat("the checkpoint of step ", step));
    make_folders(temporary);
    const Manifest manifest = write(temporary, step, state, run);
    put_in_place(temporary, place);
    next_save_index_ = manifest.save_index + 1;
  } catch (const InputError& error) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw InputError(
        concat(error.what(), "; the checkpoint of step ", step, " is not saved, earlier ones are untouched"));
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw;
  }
  replace_link(folder_ / kLatest, step_folder_name(step));
  remove_old();
  return place;
}

Manifest Checkpointer::write(const fs::path& folder, int64_t step, const StateDict& state,
                             const nlohmann::json& run) const {
  const Manifest manifest{.step = step,
                          .save_index = next_save_index_,
                          .created = utc_time(),
                          .bytes = total_bytes(state.tensors),
                          .tensors = write_shards(folder, state.tensors, max_shard_bytes_),
                          .values = state.values,
                          .run = run};
  sync_folder(folder);  // the shards' names, before the manifest that vouches for them
  write_file_atomically(folder / kManifestName, manifest_text(manifest));
  return manifest;
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

// Trouble here is no reason to stop a run whose state is safe.
void Checkpointer::remove_old() {
  try {
    auto entries = list_checkpoints(folder_);
    if (static_cast<int64_t>(entries.size()) <= retention_.keep_last) return;
    // Read back once in a process, from the page cache as a rule: this finds a bad save, not a dying disk.
    const auto damage = [&](const CheckpointEntry& entry) -> std::string {
      const auto known = verified_.find(entry.folder);
      if (known != verified_.end() && known->second == entry.manifest->save_index) return "";
      const std::string problem = damage_of(entry);
      if (problem.empty()) verified_[entry.folder] = entry.manifest->save_index;
      return problem;
    };
    const RetentionPlan plan = plan_retention(std::move(entries), retention_, damage);
    for (const auto& entry : plan.damaged)
      log_warning(
          concat("checkpoint ", entry.folder.string(), " is damaged and does not count: ", entry.problem));
    for (const auto& entry : plan.removed) {
      remove_checkpoint(entry.folder);
      verified_.erase(entry.folder);
    }
  } catch (const std::exception& error) {
    log_warning(concat("old checkpoints could not be removed: ", error.what()));
  }
}

}  // namespace transxssm
