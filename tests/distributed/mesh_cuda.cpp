// One rank on a GPU through NCCL: the same calls as with more, plain, beside other work, and from a graph.
#include <ATen/ATen.h>

#include "core/check.h"
#include "parallel/local_store.h"
#include "parallel/mesh.h"
#include "support/catch.h"
#include "support/cuda_graph.h"

namespace transxssm::test {
namespace {

struct OneRank {
  LocalStore store;
  Mesh mesh = Mesh::join(store.environment(0, 1), std::chrono::seconds(60));
  at::Device device{at::kCUDA, 0};
  OneRank() { mesh.connect(device); }
};

// All collectives on one rank leave what they were given.
void run_all(const Mesh& mesh, const at::Tensor& values, const at::Tensor& whole, const at::Tensor& shard) {
  whole.copy_(values);
  mesh.all_reduce(whole);
  mesh.reduce_scatter(shard, whole);
  whole.zero_();
  mesh.all_gather(whole, shard);
  mesh.broadcast(whole, 0);
  mesh.reduce_scatter(whole, whole);
  mesh.all_gather(whole, whole);
}

void run_beside(const Mesh& mesh, const at::Tensor& values, const at::Tensor& whole,
                const at::Tensor& shard) {
  whole.copy_(values);
  auto reduced = mesh.start_all_reduce(whole);
  reduced.wait();
  auto scattered = mesh.start_reduce_scatter(shard, whole);
  scattered.wait();
  whole.zero_();
  auto gathered = mesh.start_all_gather(whole, shard);
  gathered.wait();
}

using Work = void (*)(const Mesh&, const at::Tensor&, const at::Tensor&, const at::Tensor&);

TEST_CASE("NCCL with one rank: values, in stream order", "[cuda]") {
  const OneRank one;
  const auto type = GENERATE(at::kFloat, at::kBFloat16);
  const Work work = GENERATE(Work(run_all), Work(run_beside));
  for (const int64_t count : {1, 1000, 1 << 20}) {
    const at::Tensor values = at::randn({count}, at::device(one.device)).to(type);
    const at::Tensor whole = at::empty_like(values);
    const at::Tensor shard = at::empty_like(values);
    work(one.mesh, values, whole, shard);
    CHECK(at::equal(whole, values));
    CHECK(at::equal(shard, values));
  }
}

TEST_CASE("NCCL with one rank: recorded once, replayed with other values", "[cuda]") {
  const OneRank one;
  const Work work = GENERATE(Work(run_all), Work(run_beside));
  const at::Tensor values = at::zeros({4096}, at::device(one.device));
  const at::Tensor whole = at::empty_like(values);
  const at::Tensor shard = at::empty_like(values);
  work(one.mesh, values, whole, shard);
  CapturedGraph graph([&] { work(one.mesh, values, whole, shard); }, /*beside_others=*/true);
  for (int round = 1; round < 4; ++round) {
    values.fill_(round);
    graph.replay();
    CHECK(at::equal(whole, values));
  }
}

TEST_CASE("NCCL with one rank: a text can be exchanged and a tensor on the wrong device is refused",
          "[cuda]") {
  const OneRank one;
  CHECK(one.mesh.exchange("text") == std::vector<std::string>{"text"});
  const at::Tensor on_gpu = at::zeros({8}, at::device(one.device));
  CHECK_THROWS(one.mesh.all_gather(on_gpu, at::zeros({8})));
}

}  // namespace
}  // namespace transxssm::test
