// One rank as a child process. Only for files of this folder.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

namespace transxssm {

class ChildProcess {
 public:
  // A child that `is_heard` shares this process's standard output and error; of another's the last lines are
  // kept. `extra` overrides variables of this process's environment. The child is killed when the thread
  // that calls this ends.
  ChildProcess(const std::vector<std::string>& command, const std::map<std::string, std::string>& extra,
               bool is_heard);
  ~ChildProcess();  // kills what still runs
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t id() const { return id_; }
  void signal(int number) const;  // nothing once it has ended

  // To be called when the descriptor is readable; -1 where there is nothing to read (any more).
  int descriptor() const { return output_; }
  void read_output();
  std::string last_lines() const;

  bool has_ended() const { return status_.has_value(); }
  void ended(int wait_status);  // what waitpid() said
  bool was_killed() const;      // a signal ended it
  int exit_code() const;        // 1 if a signal ended it
  std::string how_it_ended() const;

 private:
  pid_t id_ = -1;
  int output_ = -1;
  std::string tail_;
  std::optional<int> status_;
};

}  // namespace transxssm
