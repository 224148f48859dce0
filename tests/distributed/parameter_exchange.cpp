// Several buckets among ranks: sums, updates and state are those of one rank that has all gradients.
#include "optim/parameter_exchange.h"

#include <ATen/ATen.h>

#include "distributed/forked_ranks.h"
#include "optim/init.h"
#include "optim/optimizer.h"
#include "optim/sample_specs.h"
#include "support/catch.h"

namespace transxssm::test {
namespace {

// As a rank's backward pass leaves it; whole numbers, whose sums are exact in any order.
at::Tensor gradient_of(const ParameterSpec& spec, int rank, int step) {
  at::Tensor grad = at::zeros(spec.shape);
  for (const LogicalTensor& part : spec.parts) {
    const at::Tensor rows = grad.narrow(0, part.row_begin, part.shape[0]);
    rows.copy_((at::arange(rows.numel()) * (3 + rank) + 5 * step).remainder(17).view(rows.sizes()) - 8);
  }
  return grad;
}

void add_gradient(const FlatParameters& parameters, const ParameterSpec& spec, const at::Tensor& gradient) {
  Parameter& p = *parameters.table().at(spec.name);
  at::Tensor grad = p.grad;
  if (p.begin_adding())
    grad.add_(gradient);
  else
    grad.copy_(gradient);
}

Sharding sharding_for(const Mesh& mesh, bool shared) {
  return {.rank = mesh.rank(), .ranks = mesh.size(), .optimizer_state = shared, .bucket_elements = 1};
}

// Trains with gradients of all ranks added up here.
StateDict expected_state(int ranks, at::ScalarType dtype, int steps) {
  FlatParameters parameters(sample_specs(), at::kCPU, dtype);
  initialize(parameters, 3);
  Optimizer optimizer(parameters, {});
  for (int step = 0; step < steps; ++step) {
    parameters.start_gradients();
    for (const ParameterSpec& spec : sample_specs())
      for (int rank = 0; rank < ranks; ++rank) add_gradient(parameters, spec, gradient_of(spec, rank, step));
    optimizer.set_learning_rate(0.01);
    optimizer.update(at::full({}, 1.0));
  }
  StateDict state;
  parameters.save_state(state);
  return state;
}

void expect_close(const StateDict& actual, const StateDict& expected) {
  expect(actual.tensors.size() == expected.tensors.size(), "other tensors");
  for (const auto& [name, tensor] : expected.tensors)
    expect(at::allclose(actual.tensors.at(name), tensor, 1e-5, 1e-7), concat(name, " differs"));
}

void train_ranks(const Mesh& mesh, bool shared, at::ScalarType dtype) {
  constexpr int kSteps = 3;
  const auto specs = sample_specs();
  FlatParameters parameters(specs, at::kCPU, dtype, ParameterUse::training, sharding_for(mesh, shared));
  expect(parameters.matrices().buckets.size() == 3, "buckets");
  initialize(parameters, 3);
  ParameterExchange exchange(parameters, mesh, at::kFloat);
  Optimizer optimizer(parameters, {}, &exchange);
  at::Tensor loss, votes;
  for (int step = 0; step < kSteps; ++step) {
    parameters.start_gradients();
    for (size_t i = specs.size(); i-- > 0;) {
      add_gradient(parameters, specs[i], gradient_of(specs[i], mesh.rank(), step));
      exchange.gradients_final(i);
    }
    exchange.finish_gradients();
    optimizer.set_learning_rate(0.01);
    loss = at::full({}, 1.0 + mesh.rank());
    votes = at::full({}, mesh.rank() == 1 ? 1.0 : 0.0);
    optimizer.update(loss, votes);
  }
  expect(loss.item<float>() == 0.5f * mesh.size() * (mesh.size() + 1), "loss");
  expect(votes.item<float>() == 1, "votes");
  StateDict state;
  exchange.save_state(state);
  if (!mesh.is_first()) {
    expect(state.tensors.empty(), "only the first rank saves");
    return;
  }
  const StateDict expected = expected_state(mesh.size(), dtype, kSteps);
  expect_close(state, expected);
  // Every compute copy has been updated, and what was saved loads.
  for (const LogicalView& view : parameters.logical()) {
    const at::Tensor weight =
        view.buffer->compute.narrow(0, view.offset, c10::multiply_integers(view.shape)).view(view.shape);
    expect(at::equal(weight, state.tensors.at("model/" + view.name).to(weight.scalar_type())), view.name);
  }
  FlatParameters one(specs, at::kCPU, dtype);
  one.load_state(state);
  StateDict again;
  one.save_state(again);
  for (const auto& [name, tensor] : state.tensors) expect(at::equal(again.tensors.at(name), tensor), name);
}

TEST_CASE("exchange: updates of ranks are those of one that has all gradients") {
  const bool shared = GENERATE(false, true);
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16);
  for (const int size : {2, 3}) {
    const auto errors = errors_of_ranks(size, [&](Mesh& mesh) { train_ranks(mesh, shared, dtype); });
    CHECK(errors == std::vector<std::string>(static_cast<size_t>(size)));
  }
}

TEST_CASE("exchange: shared state loads on every rank") {
  const auto errors = errors_of_ranks(3, [](Mesh& mesh) {
    const StateDict state = expected_state(2, at::kBFloat16, 2);
    FlatParameters parameters(sample_specs(), at::kCPU, at::kBFloat16, ParameterUse::training,
                              sharding_for(mesh, true));
    parameters.load_state(state);
    StateDict again;
    ParameterExchange(parameters, mesh, at::kFloat).save_state(again);
    for (const auto& [name, tensor] : again.tensors) expect(at::equal(state.tensors.at(name), tensor), name);
  });
  CHECK(errors == std::vector<std::string>(3));
}

}  // namespace
}  // namespace transxssm::test
