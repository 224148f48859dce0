// A folder that is written beside its place and moved there when it is whole.
#pragma once

#include <filesystem>
#include <vector>

namespace transxssm {

class StagedFolder {
 public:
  // Makes DIR.partial-N, locked while this lives, and removes those of `place` that processes left behind
  // which were killed: folders of that name that hold our marker and that nobody has locked. Throws
  // InputError when `place` is empty, or exists and is no empty folder.
  explicit StagedFolder(std::filesystem::path place);
  ~StagedFolder();  // removes what was not put in place, parents that were made for it included
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;

  const std::filesystem::path& path() const { return staged_; }

  // Throws InputError when somebody else has put something at `place` meanwhile.
  void put_in_place();

 private:
  std::filesystem::path place_;
  std::vector<std::filesystem::path> made_parents_;  // the outermost first
  std::filesystem::path staged_;
  int lock_ = -1;  // descriptor of the marker
};

}  // namespace transxssm
