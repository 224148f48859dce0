#include "export/staged_folder.h"

#include <system_error>

#include "core/atomic_file.h"
#include "core/check.h"

namespace transxssm {
namespace fs = std::filesystem;
namespace {

// `path` without a slash at its end, absolute.
fs::path normal(const fs::path& path) {
  const fs::path absolute = fs::absolute(path).lexically_normal();
  return absolute.has_filename() ? absolute : absolute.parent_path();
}

}  // namespace

StagedFolder::StagedFolder(fs::path place) : place_(normal(place)), staged_(place_.string() + ".partial") {
  std::error_code ignored;
  const bool free = !fs::exists(place_) || (fs::is_directory(place_) && fs::is_empty(place_, ignored));
  expect_input(free, concat(place.string(), " exists already; choose another folder, or remove it first"));
  make_folders(place_.parent_path());
  fs::remove_all(staged_, ignored);
  make_folders(staged_);
}

StagedFolder::~StagedFolder() {
  std::error_code ignored;
  if (!staged_.empty()) fs::remove_all(staged_, ignored);
}

void StagedFolder::put_in_place() {
  sync_folder(staged_);
  rename_durably(staged_, place_);
  staged_.clear();
}

}  // namespace transxssm
