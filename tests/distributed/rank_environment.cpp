// The variables of every launcher, right and wrong.
#include "parallel/rank_environment.h"

#include "support/catch.h"
#include "support/require_error.h"

namespace transxssm::test {
namespace {

RankEnvironment place(int rank, int size, int local_rank, const std::string& address, uint16_t port,
                      bool hosts_store, const std::string& launcher) {
  return {rank, size, local_rank, address, port, hosts_store, "/worker/attempt_0", launcher};
}

struct Understood {
  const char* what;
  Variables variables;
  RankEnvironment place;
};

TEST_CASE("launchers are understood") {
  const Variables torchrun{{"RANK", "9"},
                           {"WORLD_SIZE", "16"},
                           {"LOCAL_RANK", "1"},
                           {"MASTER_ADDR", "node0"},
                           {"MASTER_PORT", "40001"},
                           {"TORCHELASTIC_RUN_ID", "none"},
                           {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                           {"TORCHELASTIC_RESTART_COUNT", "0"}};
  Variables in_srun = torchrun;  // one torchrun a node
  in_srun.insert({{"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}});
  const std::vector<Understood> cases{
      {"torchrun", torchrun, place(9, 16, 1, "node0", 40001, false, "torchrun")},
      {"torchrun inside srun", in_srun, place(9, 16, 1, "node0", 40001, false, "torchrun")},
      {"PyTorchJob of Kubernetes",
       {{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "job-master-0"}, {"MASTER_PORT", "23456"}},
       place(0, 2, 0, "job-master-0", 23456, true, "RANK and WORLD_SIZE")},
      {"one process that says so",
       {{"RANK", "0"}, {"WORLD_SIZE", "1"}},
       place(0, 1, 0, "127.0.0.1", 29500, true, "RANK and WORLD_SIZE")},
      {"srun",
       {{"SLURM_STEP_ID", "0"},
        {"SLURM_PROCID", "5"},
        {"SLURM_STEP_NUM_TASKS", "8"},
        {"SLURM_LOCALID", "1"},
        {"SLURM_STEP_NODELIST", "gpu[003-005,9]"},
        {"MASTER_PORT", "1234"}},
       place(5, 8, 1, "gpu003", 1234, false, "SLURM (srun)")},
      {"srun with a chosen meeting point, that agrees with RANK",
       {{"SLURM_STEP_ID", "1"},
        {"SLURM_PROCID", "1"},
        {"SLURM_STEP_NUM_TASKS", "2"},
        {"RANK", "1"},
        {"WORLD_SIZE", "2"},
        {"LOCAL_RANK", "1"},
        {"MASTER_ADDR", "chosen"}},
       place(1, 2, 1, "chosen", 29500, false, "RANK and WORLD_SIZE")},
      {"Open MPI on one host",
       {{"OMPI_COMM_WORLD_RANK", "2"},
        {"OMPI_COMM_WORLD_SIZE", "4"},
        {"OMPI_COMM_WORLD_LOCAL_RANK", "2"},
        {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}},
       place(2, 4, 2, "127.0.0.1", 29500, false, "Open MPI")},
      {"Open MPI whose daemons srun started",
       {{"OMPI_COMM_WORLD_RANK", "9"},
        {"OMPI_COMM_WORLD_SIZE", "16"},
        {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
        {"SLURM_STEP_ID", "0"},
        {"SLURM_PROCID", "1"},
        {"SLURM_STEP_NUM_TASKS", "2"},
        {"MASTER_ADDR", "node0"}},
       place(9, 16, 1, "node0", 29500, false, "Open MPI")},
      {"Hydra",
       {{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}, {"MPI_LOCALRANKID", "0"}, {"MPI_LOCALNRANKS", "2"}},
       place(0, 2, 0, "127.0.0.1", 29500, true, "Hydra (MPICH, Intel MPI)")},
  };
  for (const auto& [what, variables, wanted] : cases) {
    INFO(what);
    const auto got = rank_environment(variables);
    REQUIRE(got);
    CHECK(*got == wanted);
  }
}

TEST_CASE("without a launcher there is no rank") {
  CHECK(!rank_environment({}));
  CHECK(!rank_environment({{"RANK", ""}, {"MASTER_ADDR", "node0"}, {"HOME", "/"}}));
  // A batch script that did not go through srun, and a shell of one task.
  CHECK(!rank_environment({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}, {"SLURM_JOB_ID", "7"}}));
  CHECK(!rank_environment({{"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}}));
}

TEST_CASE("jobs of one scheduler meet at ports of their own, restarts under prefixes of their own") {
  Variables variables{{"SLURM_STEP_ID", "0"},
                      {"SLURM_PROCID", "0"},
                      {"SLURM_STEP_NUM_TASKS", "2"},
                      {"SLURM_JOB_NODELIST", "a1"},
                      {"SLURM_JOB_ID", "1234567"}};
  const uint16_t port = rank_environment(variables)->port;
  CHECK(port >= 15000);
  CHECK(port < 25000);
  variables["SLURM_PROCID"] = "1";
  CHECK(rank_environment(variables)->port == port);
  variables["SLURM_JOB_ID"] = "1234568";
  CHECK(rank_environment(variables)->port != port);
  variables["TORCHELASTIC_RESTART_COUNT"] = "3";
  CHECK(rank_environment(variables)->prefix == "/worker/attempt_3");
}

TEST_CASE("wrong environments explain themselves") {
  struct Wrong {
    Variables variables;
    const char* message;
  };
  const std::vector<Wrong> cases{
      {{{"RANK", "2"}, {"WORLD_SIZE", "2"}}, "RANK=2 in the environment must be less than WORLD_SIZE=2"},
      {{{"RANK", "0"}}, "RANK is set in the environment but WORLD_SIZE is not"},
      {{{"WORLD_SIZE", "4"}}, "WORLD_SIZE is set in the environment but RANK is not"},
      {{{"RANK", "first"}, {"WORLD_SIZE", "2"}},
       "RANK in the environment must be a whole number from 0 to 999999, it is \"first\""},
      {{{"RANK", "-1"}, {"WORLD_SIZE", "2"}}, "it is \"-1\""},
      {{{"RANK", "0"}, {"WORLD_SIZE", "0"}},
       "WORLD_SIZE in the environment must be a whole number from 1 to"},
      {{{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "5"}},
       "LOCAL_RANK=5 in the environment can't exceed RANK=1"},
      {{{"RANK", "1"}, {"WORLD_SIZE", "2"}},
       "MASTER_ADDR is not set in the environment: set it to the host of rank 0 in all 2"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}, {"MASTER_PORT", "70000"}},
       "MASTER_PORT in the environment must be a whole number from 1 to 65535"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"TORCHELASTIC_USE_AGENT_STORE", "True"}},
       "MASTER_PORT is not set"},
      {{{"RANK", "3"},
        {"WORLD_SIZE", "4"},
        {"MASTER_ADDR", "a"},
        {"SLURM_STEP_ID", "0"},
        {"SLURM_PROCID", "1"},
        {"SLURM_STEP_NUM_TASKS", "2"}},
       "two launchers disagree about this process: RANK=3 of WORLD_SIZE=4, but SLURM_PROCID=1 of "
       "SLURM_STEP_NUM_TASKS=2. Unset RANK and WORLD_SIZE to follow SLURM (srun)"},
      {{{"RANK", "0"},
        {"WORLD_SIZE", "2"},
        {"MASTER_ADDR", "a"},
        {"OMPI_COMM_WORLD_RANK", "1"},
        {"OMPI_COMM_WORLD_SIZE", "2"}},
       "but OMPI_COMM_WORLD_RANK=1 of OMPI_COMM_WORLD_SIZE=2. Unset RANK and WORLD_SIZE to follow Open MPI"},
      {{{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}},
       "MASTER_ADDR is not set"},
      {{{"SLURM_STEP_ID", "0"},
        {"SLURM_PROCID", "0"},
        {"SLURM_STEP_NUM_TASKS", "2"},
        {"SLURM_STEP_NODELIST", "gpu[03"}},
       "the host list \"gpu[03\" can't be read"},
      {{{"PMIX_RANK", "0"}}, "nothing says how many ranks there are"},
  };
  for (const auto& [variables, message] : cases) require_error([&] { rank_environment(variables); }, message);
}

TEST_CASE("a rank that this program starts finds its place") {
  CHECK(*rank_environment(local_rank_variables(1, 3, 4321)) ==
        place(1, 3, 1, "127.0.0.1", 4321, false, "torchrun"));
}

TEST_CASE("SLURM's compressed host lists") {
  CHECK(first_host("gpu[003-005,9]") == "gpu003");
  CHECK(first_host("login1,gpu[1-2]") == "login1");
  CHECK(first_host("rack[7,9]n[01-04]-ib,x") == "rack7n01-ib");
  CHECK(first_host("a[10]") == "a10");
  for (const char* wrong : {"", ",b", "a[]", "a[-3]", "a[1"})
    require_error([&] { first_host(wrong); }, "the host list");
}

TEST_CASE("one GPU per rank") {
  RankEnvironment third;
  third.rank = 6;
  third.local_rank = 2;
  CHECK(own_gpu(third, {}) == "2");
  CHECK(own_gpu(third, {{"CUDA_VISIBLE_DEVICES", "5"}}) == "5");
  CHECK(own_gpu(third, {{"CUDA_VISIBLE_DEVICES", "4,5,GPU-ab,7"}}) == "GPU-ab");
  require_error(
      [&] {
        own_gpu(third, {{"CUDA_VISIBLE_DEVICES", "4,5"}});
      },
      "rank 6 is number 2 on its host, counted from 0, but CUDA_VISIBLE_DEVICES is 4,5");
}

}  // namespace
}  // namespace transxssm::test
