// Starts a run's ranks as processes of this host, and ends them together.
#pragma once

#include <string>
#include <vector>

namespace transxssm {

struct LocalRanks {
  int count = 0;
  std::vector<std::string> command;  // program and arguments of each rank; its place is in its environment
  int stop_exit_code = 0;            // of a rank that stopped early with everything saved
  int grace_milliseconds = 10'000;   // for the other ranks, once one has failed
};

struct LocalOutcome {
  int exit_code = 0;               // of the first rank to fail; 1 if a signal ended it
  std::string failure;             // which rank failed first and how, with its last lines; empty without one
  bool first_ended_itself = true;  // rank 0 was not killed, so it has left its files as they should be
};

// Runs the ranks until all have ended. Rank 0 has this process's standard output and error; of the others
// the last lines are kept. SIGTERM, SIGINT and SIGUSR1 go to all ranks. When one fails, the others have
// `grace` to end by themselves and are then killed; they are killed, too, when this process dies.
LocalOutcome run_local_ranks(const LocalRanks& ranks);

}  // namespace transxssm
