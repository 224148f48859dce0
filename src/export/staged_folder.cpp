#include "export/staged_folder.h"

#include <algorithm>
#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/atomic_file.h"
#include "core/check.h"

namespace transxssm {
namespace fs = std::filesystem;
namespace {

constexpr const char* kSuffix = ".partial-";
constexpr const char* kMarker = ".transxssm-partial";

// `path` without a slash at its end, absolute.
fs::path normal(const fs::path& path) {
  expect_input(!path.empty(), "the name of the folder to make is empty");
  const fs::path absolute = fs::absolute(path).lexically_normal();
  return absolute.has_filename() ? absolute : absolute.parent_path();
}

std::vector<fs::path> missing_parents(const fs::path& place) {
  std::vector<fs::path> missing;
  std::error_code ignored;
  for (fs::path p = place.parent_path(); !fs::exists(p, ignored) && p != p.parent_path(); p = p.parent_path())
    missing.insert(missing.begin(), p);
  return missing;
}

// Of the marker, or -1 when somebody holds it or there is none. File systems without locks count as free.
int lock_of(const fs::path& marker, int flags) {
  const int descriptor = ::open(marker.c_str(), O_RDWR | O_CLOEXEC | flags, 0666);
  if (descriptor < 0 || ::flock(descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
    return descriptor;
  ::close(descriptor);
  return -1;
}

void remove_abandoned(const fs::path& place) {
  const std::string prefix = place.filename().string() + kSuffix;
  std::error_code ignored;
  for (const auto& item : fs::directory_iterator(place.parent_path(), ignored)) {
    const std::string name = item.path().filename().string();
    if (!name.starts_with(prefix) || name.find_first_not_of("0123456789", prefix.size()) != std::string::npos)
      continue;
    const int lock = lock_of(item.path() / kMarker, 0);
    if (lock < 0) continue;
    fs::remove_all(item.path(), ignored);
    ::close(lock);
  }
}

// The first free name from the number of this process on: other machines may write there as well.
fs::path make_staged(const fs::path& place) {
  for (int64_t number = ::getpid();; ++number) {
    const fs::path staged = concat(place.string(), kSuffix, number);
    if (::mkdir(staged.c_str(), 0777) == 0) return staged;
    if (errno != EEXIST) throw_file_error("cannot make the folder", staged, errno);
  }
}

// The marker appears under its name when it is locked already, or another process would take it for
// abandoned.
int put_marker(const fs::path& staged) {
  const fs::path unnamed = staged / concat(kMarker, "-new");
  const int lock = lock_of(unnamed, O_CREAT | O_EXCL);
  if (lock < 0) throw_file_error("cannot write", unnamed, errno);
  rename_durably(unnamed, staged / kMarker);
  return lock;
}

}  // namespace

StagedFolder::StagedFolder(fs::path place) : place_(normal(place)), made_parents_(missing_parents(place_)) {
  std::error_code ignored;
  const bool free = !fs::exists(place_) || (fs::is_directory(place_) && fs::is_empty(place_, ignored));
  expect_input(free, concat(place.string(), " exists already; choose another folder, or remove it first"));
  make_folders(place_.parent_path());
  remove_abandoned(place_);
  staged_ = make_staged(place_);
  lock_ = put_marker(staged_);
}

StagedFolder::~StagedFolder() {
  std::error_code ignored;
  if (!staged_.empty()) {
    fs::remove_all(staged_, ignored);
    // Not those that somebody else uses by now: only empty folders are removed.
    for (auto parent = made_parents_.rbegin(); parent != made_parents_.rend(); ++parent)
      fs::remove(*parent, ignored);
  }
  if (lock_ >= 0) ::close(lock_);
}

void StagedFolder::put_in_place() {
  fs::remove(staged_ / kMarker);
  sync_folder(staged_);
  rename_durably(staged_, place_);
  staged_.clear();
}

}  // namespace transxssm
