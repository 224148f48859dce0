// Runs the program itself in a folder: what it printed, how it ended and which files it left.
#pragma once

#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support/temp_folder.h"

namespace transxssm::test {

struct Ended {
  int code = 0;  // 128 + the signal when one ended it
  std::string out;
  std::string err;
};

inline std::vector<std::string> words(const std::string& separated_by_spaces) {
  std::istringstream in(separated_by_spaces);
  return {std::istream_iterator<std::string>(in), {}};
}

inline std::string content_of(int descriptor) {
  std::string text(static_cast<size_t>(::lseek(descriptor, 0, SEEK_END)), '\0');
  expect(::pread(descriptor, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()), "pread");
  return text;
}

// `prepare` runs in the child just before the program takes its place.
inline Ended run_program(
    const std::filesystem::path& folder, const std::vector<std::string>& arguments,
    const std::function<void()>& prepare = [] {}) {
  std::vector<std::string> words{TRANSXSSM_BINARY};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const int out = ::memfd_create("out", MFD_CLOEXEC);
  const int err = ::memfd_create("err", MFD_CLOEXEC);
  expect(out >= 0 && err >= 0, "memfd_create");
  const int code = in_child([&] {
    ::setenv("OMP_NUM_THREADS", "1", /*overwrite=*/1);
    const bool ready = ::chdir(folder.c_str()) == 0 && ::dup2(::open("/dev/null", O_RDONLY), 0) == 0 &&
                       ::dup2(out, 1) == 1 && ::dup2(err, 2) == 2;
    prepare();
    if (ready) ::execv(argv[0], argv.data());
    return 126;
  });
  Ended ended{code, content_of(out), content_of(err)};
  ::close(out);
  ::close(err);
  return ended;
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

inline void write(const std::filesystem::path& file, const std::string& content) {
  std::ofstream(file, std::ios::binary) << content;
}

// Every file and folder below `folder`, with its content.
inline std::map<std::string, std::string> contents(const std::filesystem::path& folder) {
  std::map<std::string, std::string> found;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    found[std::filesystem::relative(entry.path(), folder).string()] =
        entry.is_regular_file() ? read_file(entry.path()) : "(folder)";
  return found;
}

// Paths that appeared, changed or went. Of a run folder only checkpoints and temporary files count.
inline std::vector<std::string> changes(const std::map<std::string, std::string>& before,
                                        const std::map<std::string, std::string>& after,
                                        const std::vector<std::string>& may_change) {
  std::vector<std::string> changed;
  const auto counts = [&](const std::string& path) {
    for (const std::string& allowed : may_change)
      if (path.rfind(allowed, 0) == 0)
        return contains(path, ".tmp") || contains(path, "step_") || contains(path, "lock");
    return true;
  };
  for (const auto& [path, content] : after)
    if (counts(path) && (!before.count(path) || before.at(path) != content)) changed.push_back(path);
  for (const auto& [path, content] : before)
    if (!after.count(path)) changed.push_back("removed: " + path);
  return changed;
}

}  // namespace transxssm::test
