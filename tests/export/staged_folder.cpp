// A folder that is written beside its place: whole or not there, whatever else happens beside it.
#include "export/staged_folder.h"

#include <filesystem>
#include <set>
#include <string>

#include "core/atomic_file.h"
#include "support/catch.h"
#include "support/require_error.h"
#include "support/temp_folder.h"

using namespace transxssm;
using namespace transxssm::test;
namespace fs = std::filesystem;

namespace {

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& item : fs::directory_iterator(folder)) names.insert(item.path().filename());
  return names;
}

}  // namespace

TEST_CASE("staged folder: whole or not there") {
  const TempFolder folder;
  const fs::path place = folder / "made/here";
  {
    const StagedFolder abandoned(place);
    write_file_atomically(abandoned.path() / "file", "half");
  }
  REQUIRE(names_in(folder.path()).empty());
  StagedFolder staged(place.string() + "/");
  write_file_atomically(staged.path() / "file", "whole");
  REQUIRE_FALSE(fs::exists(place));
  staged.put_in_place();
  REQUIRE(names_in(folder / "made") == std::set<std::string>{"here"});
  REQUIRE(names_in(place) == std::set<std::string>{"file"});
  REQUIRE(read_file(place / "file") == "whole");
  require_error([&] { StagedFolder again(place); }, "exists already");
  require_error([&] { StagedFolder nameless(""); }, "is empty");
}

TEST_CASE("staged folder: removes what was left behind, and nothing that somebody uses") {
  const TempFolder folder;
  for (const char* name : {"here.partial-77", "here.partial", "here.partial-78", "here.partial-mine"})
    fs::create_directories(folder / name / "inside");
  write_file_atomically(folder / "here.partial-77/.transxssm-partial", "");  // its process was killed
  const StagedFolder first(folder / "here");
  const StagedFolder second(folder / "here");
  REQUIRE(fs::exists(first.path()));
  REQUIRE(names_in(folder.path()) == std::set<std::string>{"here.partial", "here.partial-78",
                                                           "here.partial-mine", first.path().filename(),
                                                           second.path().filename()});
}

TEST_CASE("staged folder: of two at once one comes into place, whole, and the other is told") {
  const TempFolder folder;
  StagedFolder first(folder / "here");
  {
    StagedFolder second(folder / "here");
    write_file_atomically(first.path() / "a", "first");
    write_file_atomically(second.path() / "b", "second");
    first.put_in_place();
    require_error([&] { second.put_in_place(); }, "there is something of this name already");
  }
  REQUIRE(names_in(folder.path()) == std::set<std::string>{"here"});
  REQUIRE(names_in(folder / "here") == std::set<std::string>{"a"});
}

TEST_CASE("staged folder: parents that were made for it go with it, unless somebody uses them") {
  const TempFolder folder;
  { const StagedFolder abandoned(folder / "x/y/z"); }
  REQUIRE(names_in(folder.path()).empty());
  {
    const StagedFolder abandoned(folder / "x/y/z");
    write_file_atomically(folder / "x/mine", "");
  }
  REQUIRE(names_in(folder.path()) == std::set<std::string>{"x"});
  REQUIRE(names_in(folder / "x") == std::set<std::string>{"mine"});
}
