// A folder that is removed with its object, and running a function as a user who may not write everywhere.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/check.h"

namespace transxssm::test {

class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "transxssm_test_XXXXXX").string();
    expect(::mkdtemp(pattern.data()) != nullptr, "no temporary folder");
    ::chmod(pattern.c_str(), 0755);
    path_ = pattern;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// Of a wait status: the exit code, or 128 + the signal that ended the process.
inline int exit_code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

// Runs `body` in a forked child and returns its exit status: what `body` returns, or 99 when it throws.
inline int in_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  expect(child >= 0, "fork");
  if (child == 0) {
    int code = 99;
    try {
      code = body();
    } catch (...) {
    }
    ::_exit(code);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return exit_code(status);
}

// In a child: gives up root's right to write everywhere, if it has it.
inline void become_ordinary_user() {
  constexpr uid_t kNobody = 65534;
  if (::geteuid() == 0) expect(::setgid(kNobody) == 0 && ::setuid(kNobody) == 0, "setuid");
}

// The message of the InputError that `body` throws; empty when it throws none.
inline std::string input_error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

}  // namespace transxssm::test
