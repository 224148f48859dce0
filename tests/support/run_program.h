// Runs the program itself in a folder: what it prints, how it ends and which files it leaves.
#pragma once

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/atomic_file.h"
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
  struct stat info {};  // not lseek: the program writes at the same file offset
  expect(::fstat(descriptor, &info) == 0, "fstat");
  std::string text(static_cast<size_t>(info.st_size), '\0');
  expect(::pread(descriptor, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()), "pread");
  return text;
}

// The program at work in a folder; killed with its object where it still runs.
class Program {
 public:
  // `prepare` runs in the child just before the program takes its place.
  Program(
      const std::filesystem::path& folder, const std::vector<std::string>& arguments,
      const std::function<void()>& prepare = [] {})
      : out_(::memfd_create("out", MFD_CLOEXEC)), err_(::memfd_create("err", MFD_CLOEXEC)) {
    expect(out_ >= 0 && err_ >= 0, "memfd_create");
    std::vector<std::string> words{TRANSXSSM_BINARY};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    process_ = ::fork();
    expect(process_ >= 0, "fork");
    if (process_ > 0) return;
    ::setenv("OMP_NUM_THREADS", "1", /*overwrite=*/1);
    const bool ready = ::chdir(folder.c_str()) == 0 && ::dup2(::open("/dev/null", O_RDONLY), 0) == 0 &&
                       ::dup2(out_, 1) == 1 && ::dup2(err_, 2) == 2;
    prepare();
    if (ready) ::execv(argv[0], argv.data());
    ::_exit(126);
  }
  ~Program() {
    if (!code_) {
      signal(SIGKILL);
      wait();
    }
    ::close(out_);
    ::close(err_);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  std::string err() const { return content_of(err_); }  // so far
  void signal(int number) const {
    if (!code_) ::kill(process_, number);  // else the number may be another process's by now
  }

  bool has_ended() { return code_ || take_status(WNOHANG); }

  Ended wait() {
    while (!code_) take_status(0);
    return {*code_, content_of(out_), content_of(err_)};
  }

 private:
  bool take_status(int options) {
    int status = 0;
    if (::waitpid(process_, &status, options) != process_) return false;
    code_ = exit_code(status);
    return true;
  }

  int out_;
  int err_;
  pid_t process_ = -1;
  std::optional<int> code_;
};

inline Ended run_program(
    const std::filesystem::path& folder, const std::vector<std::string>& arguments,
    const std::function<void()>& prepare = [] {}) {
  return Program(folder, arguments, prepare).wait();
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
