#include "parallel/child_process.h"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/check.h"
#include "parallel/rank_environment.h"

namespace transxssm {
namespace {

constexpr size_t kTailBytes = 16384;
constexpr int kTailLines = 20;

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> made;
  for (std::string& text : texts) made.push_back(text.data());
  made.push_back(nullptr);
  return made;
}

std::vector<std::string> environment_with(const std::map<std::string, std::string>& extra) {
  Variables variables = environment_variables();
  for (const auto& [name, value] : extra) variables[name] = value;
  std::vector<std::string> entries;
  for (const auto& [name, value] : variables) entries.push_back(name + "=" + value);
  return entries;
}

// In the child, between fork and exec: only async-signal-safe calls.
[[noreturn]] void become(char* const* argv, char* const* environment, pid_t parent, int output) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);  // it died before that
  // Of its own process group: Ctrl-C reaches the parent only, which passes it on once.
  setpgid(0, 0);
  if (output >= 0) {
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
  }
  const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (nothing >= 0) dup2(nothing, STDIN_FILENO);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);  // the parent blocks what it waits for
  execve(argv[0], argv, environment);
  _exit(127);
}

}  // namespace

ChildProcess::ChildProcess(const std::vector<std::string>& command,
                           const std::map<std::string, std::string>& extra, bool is_heard) {
  std::vector<std::string> arguments = command;
  std::vector<std::string> environment = environment_with(extra);
  const auto argv = pointers(arguments);
  const auto envp = pointers(environment);
  int ends[2] = {-1, -1};
  if (!is_heard) expect(pipe2(ends, O_CLOEXEC) == 0, "pipe2 failed");
  const pid_t parent = getpid();
  id_ = fork();
  if (id_ == 0) become(argv.data(), envp.data(), parent, ends[1]);
  const int error = errno;
  if (id_ > 0) setpgid(id_, id_);  // whoever of the two is first
  if (ends[1] >= 0) close(ends[1]);
  output_ = ends[0];
  if (id_ < 0 && output_ >= 0) close(output_);
  expect(id_ > 0, concat("starting a process failed: ", std::strerror(error)));
  if (output_ >= 0) fcntl(output_, F_SETFL, O_NONBLOCK);
}

ChildProcess::~ChildProcess() {
  if (id_ > 0 && !has_ended()) {
    signal(SIGKILL);
    waitpid(id_, nullptr, 0);
  }
  if (output_ >= 0) close(output_);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : id_(std::exchange(other.id_, -1)),
      output_(std::exchange(other.output_, -1)),
      tail_(std::move(other.tail_)),
      status_(other.status_) {}

void ChildProcess::signal(int number) const {
  if (!has_ended()) kill(number == SIGKILL ? -id_ : id_, number);  // nothing that it started stays behind
}

void ChildProcess::read_output() {
  char part[4096];
  ssize_t got = 0;
  while (output_ >= 0 && (got = read(output_, part, sizeof part)) > 0)
    tail_.append(part, static_cast<size_t>(got));
  if (tail_.size() > kTailBytes) tail_.erase(0, tail_.size() - kTailBytes);
  const bool more_may_come = got < 0 && (errno == EAGAIN || errno == EINTR);
  if (output_ >= 0 && !more_may_come) close(std::exchange(output_, -1));
}

std::string ChildProcess::last_lines() const {
  std::string text = tail_;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  size_t start = text.size();
  for (int lines = 0; lines < kTailLines && start != std::string::npos && start > 0; ++lines)
    start = text.rfind('\n', start - 1);
  return start == std::string::npos || start == 0 ? text : text.substr(start + 1);
}

void ChildProcess::ended(int wait_status) {
  status_ = wait_status;
  read_output();
}

bool ChildProcess::was_killed() const { return WIFSIGNALED(*status_); }

int ChildProcess::exit_code() const { return WIFEXITED(*status_) ? WEXITSTATUS(*status_) : 1; }

std::string ChildProcess::how_it_ended() const {
  if (WIFEXITED(*status_)) return concat("ended with exit code ", WEXITSTATUS(*status_));
  return concat("was killed by signal ", WTERMSIG(*status_), " (", strsignal(WTERMSIG(*status_)), ")");
}

}  // namespace transxssm
