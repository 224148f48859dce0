// What a launcher (torchrun, srun, mpirun, or this program's own --gpus) tells a process about the run it
// belongs to.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace transxssm {

struct RankEnvironment {
  int rank = 0;              // of all processes of the run
  int size = 1;              // processes of the run
  int local_rank = 0;        // of the run's processes on this host
  std::string address;       // host of the store through which the ranks find each other
  uint16_t port = 0;         // its port
  bool hosts_store = false;  // this process serves the store; else rank 0 or the launcher does
  std::string prefix;        // of the run's keys in the store; tells restarts apart
  std::string launcher;      // as a message names it
  bool operator==(const RankEnvironment&) const = default;
};

using Variables = std::map<std::string, std::string>;

// The environment of this process.
Variables environment_variables();

// The place that the variables give this process, or nothing where no launcher speaks in them. Throws
// InputError for values that contradict each other or miss something.
//
// Understood are, the innermost launcher first: torchrun (its agent serves the store), RANK and WORLD_SIZE
// as other launchers and job controllers set them, Open MPI, Hydra (MPICH, Intel MPI), and steps of SLURM's
// srun with more than one task. MASTER_ADDR and MASTER_PORT may be given to each of them.
std::optional<RankEnvironment> rank_environment(const Variables& variables);

// How one of `size` local ranks gets to know the same: torchrun's variables, for a store on this host.
Variables local_rank_variables(int rank, int size, uint16_t port);

// What CUDA_VISIBLE_DEVICES has to be for a rank, so that GPU 0 is its own: the only one that the variables
// name, or the one that its place on the host numbers. CUDA reads it when it starts.
std::string own_gpu(const RankEnvironment& environment, const Variables& variables);

// The first host of a list as SLURM compresses it: gpu003 of "gpu[003-005,9],login1".
std::string first_host(const std::string& hosts);

}  // namespace transxssm
