// Files are complete or absent, and errors say what the user can do.
#include "core/atomic_file.h"

#include <csignal>

#include <sys/resource.h>

#include "support/catch.h"
#include "support/temp_folder.h"

using namespace transxssm;
using namespace transxssm::test;
namespace fs = std::filesystem;

TEST_CASE("atomic_file: a replaced file holds the new content and nothing is left beside it") {
  const TempFolder folder;
  write_file_atomically(folder / "a.txt", "first");
  write_file_atomically(folder / "a.txt", std::string("second\0line", 11));
  REQUIRE(read_file(folder / "a.txt") == std::string("second\0line", 11));
  REQUIRE(std::distance(fs::directory_iterator(folder.path()), {}) == 1);
  write_file_atomically(folder / "empty", "");
  REQUIRE(read_file(folder / "empty").empty());
}

TEST_CASE(
    "atomic_file: when the disk refuses the bytes the old content stays and nothing is left beside it") {
  const TempFolder folder;
  const fs::path file = folder / "a.txt";
  write_file_atomically(file, "old");
  const int code = in_child([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string why = input_error_of([&] { write_file_atomically(file, std::string(5000, 'x')); });
    return why.find("a.txt") != std::string::npos && why.find("ulimit") != std::string::npos ? 7 : 1;
  });
  REQUIRE(code == 7);
  REQUIRE(read_file(file) == "old");
  REQUIRE(std::distance(fs::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("atomic_file: missing space is told before anything is written, with both numbers") {
  const TempFolder folder;
  const std::string why =
      input_error_of([&] { expect_free_space(folder.path(), uint64_t{1} << 60, "the test"); });
  REQUIRE(why.find("no space for the test") != std::string::npos);
  REQUIRE(why.find("1024.00 PiB are needed") != std::string::npos);
  REQUIRE_NOTHROW(expect_free_space(folder.path(), 1, "the test"));
}

TEST_CASE("atomic_file: folders are made with their parents, and a file in the way is named") {
  const TempFolder folder;
  make_folders(folder / "a/b/c/");
  REQUIRE(fs::is_directory(folder / "a/b/c"));
  REQUIRE_NOTHROW(make_folders(folder / "a/b"));
  write_file_atomically(folder / "file", "x");
  REQUIRE(input_error_of([&] { make_folders(folder / "file"); }).find("is a file") != std::string::npos);
  REQUIRE(input_error_of([&] { make_folders(folder / "file/below"); }).find("is a file") !=
          std::string::npos);
}

TEST_CASE("atomic_file: a folder without the right to write is bad input") {
  const TempFolder folder;
  fs::permissions(folder.path(), fs::perms::owner_read | fs::perms::owner_exec | fs::perms::others_exec);
  const int code = in_child([&] {
    become_ordinary_user();
    const bool file = !input_error_of([&] { write_file_atomically(folder / "a", "x"); }).empty();
    const bool sub = !input_error_of([&] { make_folders(folder / "sub"); }).empty();
    return file && sub ? 7 : 1;
  });
  REQUIRE(code == 7);
}

TEST_CASE("atomic_file: a link is replaced, also one that leads nowhere") {
  const TempFolder folder;
  replace_link(folder / "latest", "missing");
  replace_link(folder / "latest", "other");
  REQUIRE(fs::read_symlink(folder / "latest") == "other");
}

TEST_CASE("atomic_file: reading what is no file is bad input that names it") {
  const TempFolder folder;
  REQUIRE(input_error_of([&] { read_file(folder / "missing"); }).find("missing") != std::string::npos);
  REQUIRE_FALSE(input_error_of([&] { read_file(folder.path()); }).empty());
}
