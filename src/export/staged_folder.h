// A folder that is written beside its place and moved there when it is whole.
#pragma once

#include <filesystem>

namespace transxssm {

class StagedFolder {
 public:
  // Makes DIR.partial, and clears away what an interrupted earlier one left there. Throws InputError when
  // `place` exists and is no empty folder.
  explicit StagedFolder(std::filesystem::path place);
  ~StagedFolder();  // removes what was not put in place
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;

  const std::filesystem::path& path() const { return staged_; }
  void put_in_place();

 private:
  std::filesystem::path place_;
  std::filesystem::path staged_;
};

}  // namespace transxssm
