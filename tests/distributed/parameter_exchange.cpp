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

// "mixer.in" and "mixer.out" as blocks, "embed" as what belongs to none.
Sharding sharding_for(const Mesh& mesh, int64_t stage) {
  return {
      .rank = mesh.rank(), .ranks = mesh.size(), .stage = stage, .blocks = {1, 5, 6}, .bucket_elements = 1};
}

constexpr int kMicroSteps = 2;
int of_micro_step(int step, int micro_step) { return kMicroSteps * step + micro_step; }

// Trains with gradients of all ranks added up here.
StateDict expected_state(int ranks, at::ScalarType dtype, int steps) {
  FlatParameters parameters(sample_specs(), at::kCPU, dtype);
  initialize(parameters, 3);
  Optimizer optimizer(parameters, {});
  for (int step = 0; step < steps; ++step) {
    parameters.start_gradients();
    for (const ParameterSpec& spec : sample_specs())
      for (int rank = 0; rank < ranks; ++rank)
        for (int micro_step = 0; micro_step < kMicroSteps; ++micro_step)
          add_gradient(parameters, spec, gradient_of(spec, rank, of_micro_step(step, micro_step)));
    optimizer.set_learning_rate(0.01);
    optimizer.update(at::full({}, 1.0));
  }
  StateDict state;
  parameters.save_state(state);
  return state;
}

StateDict saved(const FlatParameters& parameters) {
  StateDict state;
  parameters.save_state(state);
  return state;
}

// Of what a rank saves of a tensor, the same elements of all of it.
at::Tensor counterpart(const StateDict& part, const std::string& name, const StateDict& whole) {
  const at::Tensor& here = part.tensors.at(name);
  const auto found = part.parts.find(name);
  if (found == part.parts.end()) return whole.tensors.at(name);
  return whole.tensors.at(name).reshape(-1).narrow(0, found->second.first, here.numel());
}

void expect_close(const StateDict& part, const StateDict& whole) {
  for (const auto& [name, tensor] : part.tensors)
    expect(at::allclose(tensor, counterpart(part, name, whole), 1e-5, 1e-7), concat(name, " differs"));
}

void add_gradients(const FlatParameters& parameters, ParameterExchange& exchange, int rank, int step,
                   Turn turn) {
  const auto specs = sample_specs();
  const bool sends = exchange.takes_part_in(turn);
  if (sends) exchange.start_gradients(turn);
  for (size_t i = specs.size(); i-- > 0;) {
    add_gradient(parameters, specs[i], gradient_of(specs[i], rank, step));
    if (sends) exchange.gradients_final(i);
  }
  if (sends) exchange.finish_gradients();
}

void train_ranks(const Mesh& mesh, int64_t stage, at::ScalarType dtype) {
  constexpr int kSteps = 3;
  const auto specs = sample_specs();
  FlatParameters parameters(specs, at::kCPU, dtype, ParameterUse::training, sharding_for(mesh, stage));
  expect(parameters.matrices().buckets.size() == 3, "buckets");
  initialize(parameters, 3);
  ParameterExchange exchange(parameters, mesh, at::kFloat);
  Optimizer optimizer(parameters, {}, &exchange);
  at::Tensor loss, votes;
  for (int step = 0; step < kSteps; ++step) {
    parameters.start_gradients();
    for (int micro_step = 0; micro_step < kMicroSteps; ++micro_step)
      add_gradients(parameters, exchange, mesh.rank(), of_micro_step(step, micro_step),
                    {micro_step == 0, micro_step == kMicroSteps - 1});
    parameters.check_views();
    optimizer.set_learning_rate(0.01);
    loss = at::full({}, 1.0 + mesh.rank());
    votes = at::full({}, mesh.rank() == 1 ? 1.0 : 0.0);
    optimizer.update(loss, votes);
  }
  expect(loss.item<float>() == 0.5f * mesh.size() * (mesh.size() + 1), "loss");
  expect(votes.item<float>() == 1, "votes");
  const StateDict expected = expected_state(mesh.size(), dtype, kSteps);
  expect_close(saved(parameters), expected);
  // Every whole compute copy has been updated.
  for (const LogicalView& view : parameters.logical()) {
    if (view.buffer->weight_ring.defined()) continue;
    const at::Tensor weight =
        view.buffer->compute.narrow(0, view.offset, c10::multiply_integers(view.shape)).view(view.shape);
    const at::Tensor& wanted = expected.tensors.at("model/" + view.name);
    expect(at::allclose(weight, wanted.to(weight.scalar_type()), 1e-2, 1e-7), view.name);
  }
}

TEST_CASE("exchange: updates of ranks are those of one that has all gradients") {
  const int64_t stage = GENERATE(0, 1, 2, 3);
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16);
  for (const int size : {2, 3}) {
    const auto errors = errors_of_ranks(size, [&](Mesh& mesh) { train_ranks(mesh, stage, dtype); });
    CHECK(errors == std::vector<std::string>(static_cast<size_t>(size)));
  }
}

TEST_CASE("exchange: ranks save each element once, and each loads its part only") {
  const int64_t stage = GENERATE(0, 1, 2, 3);
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16);
  const auto errors = errors_of_ranks(3, [&](Mesh& mesh) {
    const StateDict state = expected_state(2, dtype, 2);
    FlatParameters parameters(sample_specs(), at::kCPU, dtype, ParameterUse::training,
                              sharding_for(mesh, stage));
    StateDict own;  // nothing else
    for (const auto& [name, tensor] : state.tensors) {
      const ElementRange range = *parameters.own_part(name);
      own.tensors[name] = tensor.reshape(-1).narrow(0, range.first, range.count).clone();
      own.parts[name] = {tensor.sizes().vec(), range.first};
    }
    expect(!parameters.own_part("model/nothing"), "an unknown name");
    parameters.load_state(own);
    ParameterExchange(parameters, mesh, at::kFloat).share_state();
    const StateDict again = saved(parameters);
    int64_t elements = 0;
    for (const auto& [name, tensor] : again.tensors) {
      expect(at::equal(tensor, counterpart(again, name, state)), name);
      elements += tensor.numel();
    }
    const at::Tensor sum = at::full({1}, elements);
    mesh.all_reduce(sum);
    expect(sum.item<int64_t>() == 3 * kSampleCount, "elements that ranks save");
    FlatParameters alone(sample_specs(), at::kCPU, dtype);
    alone.load_state(state);
    for (const LogicalView& view : parameters.logical()) {
      if (view.buffer->weight_ring.defined()) continue;
      const auto of = [&](const FlatParameters& p, at::Tensor FlatBuffer::*part) {
        const LogicalView& same = p.logical()[static_cast<size_t>(&view - parameters.logical().data())];
        return (same.buffer->*part).narrow(0, same.offset, c10::multiply_integers(same.shape));
      };
      expect(at::equal(of(parameters, &FlatBuffer::compute), of(alone, &FlatBuffer::compute)), view.name);
      if (stage == 0) expect(at::equal(of(parameters, &FlatBuffer::m), of(alone, &FlatBuffer::m)), view.name);
    }
  });
  CHECK(errors == std::vector<std::string>(3));
}

}  // namespace
}  // namespace transxssm::test
