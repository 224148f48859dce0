// What a launcher tells a process about the run it belongs to.
#pragma once

#include <cstdint>
#include <string>

namespace transxssm {

struct RankEnvironment {
  int rank = 0;         // of all processes of the run
  int size = 1;         // processes of the run
  int local_rank = 0;   // of the processes on this host
  std::string address;  // host of the store through which the ranks find each other
  uint16_t port = 0;
  bool hosts_store = false;  // this process serves the store; else the launcher or rank 0 does
  std::string prefix;        // of the run's keys in the store; tells restarts apart
};

}  // namespace transxssm
