// Ranks on CPUs: collectives of every form against what their definition says, exchanges, and refusals.
#include <ATen/ATen.h>

#include "distributed/forked_ranks.h"
#include "support/catch.h"
#include "support/require_error.h"

namespace transxssm::test {
namespace {

void run_ranks(int size, const std::function<void(Mesh&)>& body) {
  const auto errors = errors_of_ranks(size, body);
  for (int rank = 0; rank < size; ++rank) {
    INFO("rank " << rank << " of " << size);
    CHECK(errors[static_cast<size_t>(rank)] == "");
  }
}

// Values that differ by rank and element, small integers: their sums are exact in every type.
at::Tensor values(int rank, int64_t count, at::ScalarType type) {
  return (at::arange(count, at::kFloat).remainder(7) + rank).to(type);
}

at::Tensor sum_of_ranks(int size, int64_t count, at::ScalarType type) {
  at::Tensor sum = values(0, count, at::kFloat);
  for (int rank = 1; rank < size; ++rank) sum += values(rank, count, at::kFloat);
  return sum.to(type);
}

at::Tensor part(const at::Tensor& whole, int rank, int size) {
  const int64_t count = whole.numel() / size;
  return whole.narrow(0, rank * count, count);
}

void expect_equal(const at::Tensor& got, const at::Tensor& wanted, const std::string& what) {
  expect(at::equal(got, wanted), what + " is wrong");
}

void check_collectives(Mesh& mesh, at::ScalarType type, int64_t shard_size, bool beside) {
  const int rank = mesh.rank();
  const int size = mesh.size();
  const int64_t count = shard_size * size;
  const at::Tensor total = sum_of_ranks(size, count, type);

  at::Tensor sum = values(rank, count, type);
  beside ? mesh.start_all_reduce(sum).wait() : mesh.all_reduce(sum);
  expect_equal(sum, total, "all_reduce");

  at::Tensor whole = values(rank, count, type);
  at::Tensor shard = at::full({shard_size}, -1, type);
  beside ? mesh.start_reduce_scatter(shard, whole).wait() : mesh.reduce_scatter(shard, whole);
  expect_equal(shard, part(total, rank, size), "reduce_scatter");
  at::Tensor own = part(whole, rank, size);
  beside ? mesh.start_reduce_scatter(own, whole).wait() : mesh.reduce_scatter(own, whole);
  expect_equal(own, part(total, rank, size), "reduce_scatter in place");

  at::Tensor gathered = at::full({count}, -1, type);
  beside ? mesh.start_all_gather(gathered, shard).wait() : mesh.all_gather(gathered, shard);
  expect_equal(gathered, total, "all_gather");
  gathered.fill_(-1);
  part(gathered, rank, size).copy_(shard);
  const at::Tensor mine = part(gathered, rank, size);
  beside ? mesh.start_all_gather(gathered, mine).wait() : mesh.all_gather(gathered, mine);
  expect_equal(gathered, total, "all_gather in place");
}

TEST_CASE("collectives do what their definitions say") {
  const int size = GENERATE(1, 2, 3, 4);
  run_ranks(size, [](Mesh& mesh) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
      for (const int64_t shard_size : {1, 129, 4096})
        for (const bool beside : {false, true}) check_collectives(mesh, type, shard_size, beside);
    for (int root = 0; root < mesh.size(); ++root) {
      at::Tensor tensor = values(mesh.rank(), 77, at::kLong);
      mesh.broadcast(tensor, root);
      expect_equal(tensor, values(root, 77, at::kLong), "broadcast");
    }
  });
}

TEST_CASE("the first rank gathers what the others say, without a wait of theirs") {
  run_ranks(3, [](Mesh& mesh) {
    for (int round = 0; round < 5; ++round) {
      const auto texts = mesh.gather(concat(mesh.rank(), " in ", round));
      if (mesh.is_first())
        expect(texts == std::vector<std::string>{concat("0 in ", round), concat("1 in ", round),
                                                 concat("2 in ", round)},
               "what ranks said");
      else
        expect(texts.empty(), "another rank");
      mesh.barrier();
    }
  });
}

TEST_CASE("the time of collectives and of waiting for them is measured") {
  run_ranks(2, [](Mesh& mesh) {
    const auto waited = [&] {
      return static_cast<double>(mesh.collective_times()[1].item<int64_t>()) * 1e-9;
    };
    const at::Tensor tensor = at::ones({10});
    mesh.all_reduce(tensor);
    const double before = waited();
    if (mesh.rank() == 1) ::usleep(200'000);
    mesh.all_reduce(tensor);
    const double wait = waited() - before;
    expect(mesh.rank() == 1 || wait > 0.15, concat("rank 0 waited ", wait, " s"));
    expect(mesh.collective_times()[0].item<int64_t>() >= mesh.collective_times()[1].item<int64_t>(),
           "waited for longer than collectives ran");
  });
}

TEST_CASE("several collectives are under way at once") {
  run_ranks(3, [](Mesh& mesh) {
    std::vector<at::Tensor> sums;
    std::vector<PendingCollective> pending;
    for (int bucket = 0; bucket < 8; ++bucket) {
      sums.push_back(values(mesh.rank() + bucket, 1000, at::kFloat));
      pending.push_back(mesh.start_all_reduce(sums.back()));
    }
    for (int bucket = 7; bucket >= 0; --bucket) {
      pending[static_cast<size_t>(bucket)].wait();
      expect_equal(sums[static_cast<size_t>(bucket)], sum_of_ranks(3, 1000, at::kFloat) + 3 * bucket,
                   "a bucket");
    }
  });
}

TEST_CASE("sums of rounded values have the same bits on every rank and in every run") {
  const auto hash_of_sum = [](Mesh& mesh) {
    at::Tensor sum = (at::arange(10007, at::kFloat) * (0.1 + mesh.rank())).sin();
    mesh.all_reduce(sum);
    const auto* words = static_cast<const uint32_t*>(sum.const_data_ptr());
    uint64_t hash = 0;
    for (int64_t i = 0; i < sum.numel(); ++i) hash = hash * 1099511628211u + words[i];
    const auto all = mesh.exchange(std::to_string(hash));
    for (const std::string& other : all) expect(other == all[0], "ranks differ");
    throw std::runtime_error(all[0]);  // to the test: both runs must say the same
  };
  const auto first = errors_of_ranks(4, hash_of_sum);
  REQUIRE(first[0].find_first_not_of("0123456789") == std::string::npos);
  CHECK(errors_of_ranks(4, hash_of_sum) == first);
}

TEST_CASE("ranks exchange texts") {
  run_ranks(4, [](Mesh& mesh) {
    for (int round = 0; round < 20; ++round) {
      const auto texts = mesh.exchange(concat("rank ", mesh.rank(), " round ", round));
      for (int rank = 0; rank < mesh.size(); ++rank)
        expect(texts[static_cast<size_t>(rank)] == concat("rank ", rank, " round ", round),
               "a text is wrong");
    }
    expect(mesh.exchange(mesh.is_first() ? "" : std::string(1 << 20, 'x'))[0].empty(), "an empty text");
    mesh.barrier();
  });
}

TEST_CASE("one rank alone needs no other") {
  const Mesh mesh = Mesh::single();
  CHECK(mesh.rank() == 0);
  CHECK(mesh.size() == 1);
  CHECK(mesh.exchange("mine") == std::vector<std::string>{"mine"});
  mesh.barrier();
  const at::Tensor tensor = values(0, 12, at::kFloat);
  at::Tensor sum = tensor.clone();
  mesh.all_reduce(sum);
  mesh.broadcast(sum, 0);
  CHECK(at::equal(sum, tensor));
  at::Tensor copy = at::empty({12});
  mesh.reduce_scatter(copy, tensor);
  CHECK(at::equal(copy, tensor));
  copy.zero_();
  mesh.start_all_gather(copy, tensor).wait();
  CHECK(at::equal(copy, tensor));
  mesh.all_gather(copy, copy);
  CHECK(at::equal(copy, tensor));
}

TEST_CASE("tensors that do not fit are refused") {
  const Mesh mesh = Mesh::single();
  const at::Tensor tensor = at::full({6}, 1.0f);
  require_error(
      [&] {
        mesh.all_reduce(tensor.view({2, 3}));
      },
      "sum must be flat and contiguous, it is [2, 3]");
  require_error([&] { mesh.all_gather(tensor, tensor.slice(0, 0, 6, 2)); },
                "shard must be flat and contiguous");
  require_error([&] { mesh.reduce_scatter(tensor, tensor.to(at::kBFloat16)); },
                "whole must hold 1 shards of [6] Float on cpu, it is [6] BFloat16 on cpu");
  require_error([&] { mesh.broadcast(tensor, 1); }, "broadcast from rank 1 of 1");
  run_ranks(2, [](Mesh& two) {
    const auto refused = [](const std::function<void()>& work) {
      try {
        work();
      } catch (const std::runtime_error& error) {
        return std::string(error.what()).find("whole must hold 2 shards") != std::string::npos;
      }
      return false;
    };
    expect(refused([&] { two.reduce_scatter(at::empty({3}), at::empty({7})); }), "7 is not 2 × 3");
    expect(refused([&] { two.all_gather(at::empty({5}), at::empty({3})); }), "5 is not 2 × 3");
  });
}

TEST_CASE("a rank that is missing at the start is named") {
  const auto join = [](const RankEnvironment& environment) {
    Mesh::join(environment, std::chrono::seconds(1));
  };
  const ForkedRank first(join);
  const ForkedRank second(join);
  const LocalStore store;
  first.start(store.environment(0, 4));
  second.start(store.environment(2, 4));
  CHECK(first.wait() == "ranks 1, 3 of 4 did not start within 1 s");
  CHECK(second.wait() == "ranks 1, 3 of 4 did not start within 1 s");
}

TEST_CASE("meeting points that can't be used explain themselves") {
  const LocalStore store;
  RankEnvironment environment = store.environment(0, 1);
  environment.hosts_store = true;
  require_error([&] { Mesh::join(environment, std::chrono::seconds(1)); },
                "is the port taken by another run?");
  environment = store.environment(1, 2);
  environment.port = 1;
  require_error([&] { Mesh::join(environment, std::chrono::seconds(1)); },
                "rank 1 can't reach the meeting point of the ranks at 127.0.0.1:1 within 1 s");
  const Mesh alone = Mesh::join(store.environment(0, 1), kTestTimeout);
  require_error([&] { Mesh::join(store.environment(0, 1), std::chrono::seconds(1)); }, "rank 0 exists twice");
}

}  // namespace
}  // namespace transxssm::test
