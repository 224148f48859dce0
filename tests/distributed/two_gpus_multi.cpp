// Two ranks on two GPUs through NCCL: collectives, plain and from a graph, and training that learns what one
// rank does.
#include <ATen/ATen.h>

#include "distributed/trained_ranks.h"
#include "support/cuda_graph.h"
#include "support/run_result.h"

namespace transxssm::test {
namespace {

constexpr int kGpus = 2;

// Before the process looks at a GPU.
void see_own_gpu(const RankEnvironment& environment) {
  ::setenv("CUDA_VISIBLE_DEVICES", std::to_string(environment.local_rank).c_str(), /*overwrite=*/1);
}

std::vector<std::string> errors_of(int size, const std::function<void(const RankEnvironment&)>& body) {
  Ranks ranks;
  for (int rank = 0; rank < size; ++rank)
    ranks.push_back(std::make_unique<ForkedRank>([&](const RankEnvironment& environment) {
      see_own_gpu(environment);
      body(environment);
    }));
  const LocalStore store;
  for (int rank = 0; rank < size; ++rank)
    ranks[static_cast<size_t>(rank)]->start(store.environment(rank, size));
  std::vector<std::string> errors;
  for (const auto& rank : ranks) errors.push_back(rank->wait());
  return errors;
}

void all_collectives(const Mesh& mesh, const at::Tensor& values, const at::Tensor& whole,
                     const at::Tensor& own) {
  whole.copy_(values);
  mesh.all_reduce(whole);                        // 3 x values
  mesh.start_reduce_scatter(own, whole).wait();  // 6 x this rank's part
  whole.zero_();
  mesh.start_all_gather(whole, own).wait();
}

TEST_CASE("two GPUs: collectives, plain and replayed", "[.multi][cuda]") {
  const auto errors = errors_of(kGpus, [](const RankEnvironment& environment) {
    Mesh mesh = Mesh::join(environment, kTestTimeout);
    const at::Device device(at::kCUDA, 0);
    mesh.connect(device);
    for (const int64_t part : {1, 1009, 1 << 20}) {
      const at::Tensor base = at::arange(part * kGpus, at::device(device).dtype(at::kFloat)).remainder(63);
      const at::Tensor values = base * (mesh.rank() + 1);
      const at::Tensor whole = at::empty_like(values), own = at::empty({part}, values.options());
      const auto check = [&](double scale, const std::string& what) {
        expect(at::equal(whole, base * (6 * scale)), concat(what, " of ", part));
      };
      all_collectives(mesh, values, whole, own);
      check(1, "plain collectives");
      CapturedGraph graph([&] { all_collectives(mesh, values, whole, own); }, /*beside_others=*/true);
      for (int round = 2; round < 5; ++round) {
        values.copy_(base * ((mesh.rank() + 1) * round));
        graph.replay();
        check(round, "replayed collectives");
      }
    }
    const at::Tensor times = mesh.collective_times().cpu();
    expect(times[0].item<int64_t>() > 0 && times[1].item<int64_t>() > 0, "no time was measured");
  });
  CHECK(errors == std::vector<std::string>(kGpus));
}

RunConfig wide_config(const TinyRun& tiny, const std::string& name) {
  RunConfig config = tiny.config(name);
  config.model.hidden_size = 1024;
  config.model.intermediate_size = 2048;
  config.model.num_layers = 8;
  config.model.attention.num_heads = config.model.attention.num_kv_heads = 8;
  config.model.ssd.num_heads = config.model.ssd.num_groups = 8;
  config.model.attention.head_dim = config.model.ssd.head_dim = config.model.ssd.state_dim = 128;
  config.model.init_std = 0.02;
  config.optimizer.lr = 5e-4;
  config.schedule = {.type = ScheduleType::constant};
  config.train.device = Device::cuda;
  config.train.max_steps = 8;
  return config;
}

void train(const RunConfig& config, int size) {
  const auto errors = errors_of(size, [&](const RankEnvironment& environment) {
    const int code = launch_training(config, {}, Mesh::join(environment, kTestTimeout));
    expect(code == 0, concat("exit code ", code));
  });
  CHECK(errors == std::vector<std::string>(static_cast<size_t>(size)));
}

// bf16 products of other shapes, whose rounding grows over the steps.
constexpr double kRounding = 5e-3;

TEST_CASE("two GPUs learn what one does, at every stage, and go on from each other's checkpoints",
          "[.multi][cuda]") {
  const TinyRun tiny;
  const RunConfig alone = wide_config(tiny, "alone");
  train(alone, 1);
  for (const int64_t stage : {0, 1, 2, 3}) {
    CAPTURE(stage);
    RunConfig two = wide_config(tiny, concat("two", stage));
    two.parallel.zero_stage = stage;
    train(two, kGpus);
    CHECK(largest_difference(losses_of(two), losses_of(alone)) < kRounding);

    RunConfig parts = wide_config(tiny, concat("parts", stage));
    parts.parallel.zero_stage = stage;
    parts.train.max_steps = 4;
    train(parts, kGpus);
    RunConfig on_one = wide_config(tiny, concat("onone", stage));
    on_one.parallel.zero_stage = stage;
    std::filesystem::copy(parts.train.run_dir, on_one.train.run_dir,
                          std::filesystem::copy_options::recursive);

    parts.train.max_steps = 8;
    train(parts, kGpus);
    CHECK(losses_of(parts) == losses_of(two));
    require_equal_bits(final_state(parts.train.run_dir), final_state(two.train.run_dir));

    train(on_one, 1);
    CHECK(largest_difference(losses_of(on_one), losses_of(alone)) < kRounding);
  }
}

}  // namespace
}  // namespace transxssm::test
