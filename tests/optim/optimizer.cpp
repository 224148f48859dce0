// Whole optimizer steps: clipping, decay ranges, skipped steps, padding, state.
#include "optim/optimizer.h"

#include <cmath>
#include <limits>

#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>

#include "optim/init.h"
#include "optim/sample_specs.h"
#include "support/catch.h"
#include "support/compare.h"

using namespace transxssm;

namespace {

at::Tensor number(double value) { return at::full({}, value, at::TensorOptions(at::kFloat)); }

void update(Optimizer& optimizer, double lr, const at::Tensor& loss) {
  optimizer.set_learning_rate(lr);
  optimizer.update(loss);
}

OptimizerConfig config_with(double weight_decay, double max_grad_norm) {
  OptimizerConfig config;
  config.weight_decay = weight_decay;
  config.max_grad_norm = max_grad_norm;
  return config;
}

// Gradients of logical tensors, as a backward pass leaves them; different for every `seed`.
void fill_grads(const FlatParameters& parameters, uint64_t seed, double scale = 1e-2) {
  for (const auto& spec : sample_specs()) {
    const at::Tensor& grad = parameters.table().at(spec.name)->grad;
    for (const LogicalTensor& part : spec.parts) {
      std::vector<float> values(static_cast<size_t>(grad[0].numel() * part.shape[0]));
      initial_values({Init::Kind::normal, scale, 0}, part.name, seed, 0, values);
      const at::Tensor rows = grad.narrow(0, part.row_begin, part.shape[0]);
      rows.copy_(at::from_blob(values.data(), rows.sizes(), at::TensorOptions(at::kFloat)));
    }
  }
}

struct Snapshot {
  explicit Snapshot(const FlatParameters& p) {
    for (const FlatBuffer* b : {&p.matrices(), &p.vectors()})
      for (const at::Tensor& t : {b->compute, b->master, b->m, b->v}) tensors.push_back(t.clone());
  }
  bool operator==(const Snapshot& other) const {
    for (size_t i = 0; i < tensors.size(); ++i)
      if (!same_bits(tensors[i], other.tensors[i])) return false;
    return true;
  }
  std::vector<at::Tensor> tensors;
};

struct Trained {
  explicit Trained(const OptimizerConfig& config, at::ScalarType dtype = at::kBFloat16)
      : parameters(sample_specs(), at::kCPU, dtype), optimizer(parameters, config) {
    initialize(parameters, 1);
  }
  void step(uint64_t seed, double loss = 1.0) {
    fill_grads(parameters, seed);
    update(optimizer, 1e-2, number(loss));
  }
  FlatParameters parameters;
  Optimizer optimizer;
};

StateDict saved(const Trained& t) {
  StateDict state;
  t.parameters.save_state(state);
  t.optimizer.save_state(state);
  for (auto& [name, tensor] : state.tensors) tensor = tensor.clone();
  return state;
}

}  // namespace

TEST_CASE("optimizer: the gradient is scaled down to max_grad_norm, and left alone below it", "[optim]") {
  // One step from zero moments: m = 0.1 * clipped gradient.
  Trained t(config_with(0, 0.5));
  fill_grads(t.parameters, 1, 1.0);
  const at::Tensor grad = t.parameters.matrices().grad.clone();
  const double norm =
      std::hypot(grad.norm().item<double>(), t.parameters.vectors().grad.norm().item<double>());
  REQUIRE(norm > 5);
  update(t.optimizer, 1e-2, number(1));
  REQUIRE(std::abs(t.optimizer.grad_norm().item<double>() / norm - 1) < 1e-6);
  REQUIRE(max_abs_diff(t.parameters.matrices().m, grad * (0.1 * 0.5 / norm)) < 1e-8);

  for (const double limit : {100.0, 0.0}) {  // 0: no clipping
    Trained whole(config_with(0, limit));
    fill_grads(whole.parameters, 1, 1.0);
    update(whole.optimizer, 1e-2, number(1));
    REQUIRE(max_abs_diff(whole.parameters.matrices().m, grad * 0.1) < 1e-7);
  }
}

TEST_CASE("optimizer: weight decay reaches the decayed parameters and no others", "[optim]") {
  Trained plain(config_with(0, 1)), decaying(config_with(0.5, 1));
  const Snapshot before(plain.parameters);
  plain.step(1);
  decaying.step(1);
  for (const auto& spec : sample_specs()) {
    INFO(spec.name);
    const auto& a = plain.parameters.table().at(spec.name)->weight;
    const auto& b = decaying.parameters.table().at(spec.name)->weight;
    REQUIRE(same_bits(a, b) != spec.weight_decay);
  }
  const at::Tensor shrunk = plain.parameters.matrices().master - decaying.parameters.matrices().master;
  const at::Tensor expected = before.tensors[1] * (1e-2 * 0.5);
  const int64_t decayed = plain.parameters.matrices().decayed;
  REQUIRE(max_abs_diff(shrunk.narrow(0, 0, decayed), expected.narrow(0, 0, decayed)) < 1e-8);
}

TEST_CASE("optimizer: padding rows and gaps stay zero, views stay in their buffers", "[optim]") {
  Trained t(config_with(0.1, 1));
  for (uint64_t i = 0; i < 5; ++i) t.step(i);
  int64_t logical = 0;
  for (const LogicalView& tensor : t.parameters.logical()) {
    logical += tensor.weight.count_nonzero().item<int64_t>() + tensor.m.count_nonzero().item<int64_t>() +
               tensor.v.count_nonzero().item<int64_t>();
  }
  int64_t all = 0;
  for (const FlatBuffer* b : {&t.parameters.matrices(), &t.parameters.vectors()})
    for (const at::Tensor& x : {b->master, b->m, b->v}) all += x.count_nonzero().item<int64_t>();
  REQUIRE(all == logical);
  REQUIRE(max_abs(t.parameters.table().at("mixer.in")->weight.narrow(0, 12, 4)) == 0);
  REQUIRE_NOTHROW(t.parameters.check_views());
}

TEST_CASE("optimizer: compute copies are fresh after a step", "[optim]") {
  Trained t(config_with(0.1, 1));
  t.step(3);
  REQUIRE(same_bits(t.parameters.matrices().compute, t.parameters.matrices().master.to(at::kBFloat16)));
}

TEST_CASE("optimizer: a non-finite loss or norm changes no weight, moment or Adam step, and is counted",
          "[optim]") {
  const double inf = std::numeric_limits<double>::infinity();
  Trained t(config_with(0.1, 1)), undisturbed(config_with(0.1, 1));
  t.step(1);
  undisturbed.step(1);
  const Snapshot before(t.parameters);
  t.step(2, inf);
  t.step(3, std::nan(""));
  fill_grads(t.parameters, 4);
  t.parameters.table().at("norm")->grad[2] = GENERATE(HUGE_VALF, NAN, 1e30f);  // 1e30 overflows the norm
  update(t.optimizer, 1e-2, number(1));
  REQUIRE(Snapshot(t.parameters) == before);
  REQUIRE(t.optimizer.skipped_steps().item<int64_t>() == 3);
  REQUIRE(t.optimizer.skipped_in_row().item<int64_t>() == 3);

  t.step(5);
  undisturbed.step(5);
  REQUIRE(Snapshot(t.parameters) == Snapshot(undisturbed.parameters));
  REQUIRE(t.optimizer.skipped_steps().item<int64_t>() == 3);
  REQUIRE(t.optimizer.skipped_in_row().item<int64_t>() == 0);
}

TEST_CASE("optimizer: going on from a saved state gives the same bits", "[optim]") {
  Trained whole(config_with(0.1, 1)), first(config_with(0.1, 1)), resumed(config_with(0.1, 1));
  for (uint64_t i = 0; i < 6; ++i) whole.step(i, i == 2 ? std::nan("") : 1.0);
  for (uint64_t i = 0; i < 3; ++i) first.step(i, i == 2 ? std::nan("") : 1.0);
  const StateDict state = saved(first);
  resumed.parameters.load_state(state);
  resumed.optimizer.load_state(state);
  REQUIRE(resumed.optimizer.skipped_in_row().item<int64_t>() == 1);
  for (uint64_t i = 3; i < 6; ++i) resumed.step(i);
  REQUIRE(Snapshot(resumed.parameters) == Snapshot(whole.parameters));
  REQUIRE(saved(resumed).values == saved(whole).values);
}

TEST_CASE("optimizer: a state without its numbers is refused", "[optim]") {
  Trained t(config_with(0.1, 1));
  StateDict state = saved(t);
  state.values["optimizer"].erase("adam_step");
  REQUIRE_THROWS_AS(t.optimizer.load_state(state), InputError);
  REQUIRE_THROWS_AS(t.optimizer.load_state(StateDict{}), InputError);
}

TEST_CASE("optimizer: it walks downhill to the minimum of a quadratic", "[optim]") {
  const std::vector<ParameterSpec> specs{
      one_part("w", ParameterKind::matrix, {5, 7}, true, {Init::Kind::normal, 1, 0})};
  FlatParameters parameters(specs, at::kCPU, at::kFloat);
  initialize(parameters, 1);
  Optimizer optimizer(parameters, config_with(0, 1));
  const auto& w = *parameters.table().at("w");
  for (int i = 0; i < 400; ++i) {
    w.grad.copy_(w.weight.detach() - 3);
    update(optimizer, i < 300 ? 0.05 : 0.005, (w.weight.detach() - 3).square().sum());
  }
  REQUIRE(max_abs(w.weight.detach() - 3) < 0.01);
}
