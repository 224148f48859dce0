// Flat buffers: layout, views, padding, saving and loading.
#include "optim/flat_parameters.h"

#include <functional>

#include "optim/init.h"
#include "optim/sample_specs.h"
#include "support/catch.h"
#include "support/compare.h"

using namespace transxssm;

namespace {

// Copies, as a checkpoint holds them.
StateDict saved(const FlatParameters& parameters) {
  StateDict state;
  parameters.save_state(state);
  for (auto& [name, tensor] : state.tensors) tensor = tensor.clone();
  return state;
}

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

FlatParameters& filled(FlatParameters& parameters) {
  initialize(parameters, 7);
  for (const LogicalView& tensor : parameters.logical()) {
    tensor.m.fill_(0.25);
    tensor.v.copy_(tensor.weight.square());
  }
  return parameters;
}

}  // namespace

TEST_CASE("flat_parameters: bytes_needed is what the constructor allocates", "[optim]") {
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
    for (const auto use : {ParameterUse::training, ParameterUse::inference}) {
      const FlatParameters parameters(sample_specs(), at::kCPU, dtype, use);
      size_t bytes = 0;
      for (const FlatBuffer* buffer : {&parameters.matrices(), &parameters.vectors()}) {
        for (const at::Tensor& tensor :
             {buffer->compute, buffer->master, buffer->grad, buffer->m, buffer->v}) {
          const bool shared = tensor.is_same(buffer->master) && tensor.is_same(buffer->compute);
          if (tensor.defined()) bytes += shared ? tensor.nbytes() / 2 : tensor.nbytes();
        }
      }
      REQUIRE(FlatParameters::bytes_needed(sample_specs(), dtype, use).total() == bytes);
    }
  }
}

TEST_CASE("flat_parameters: every weight and gradient lies in its buffer, aligned to 256 bytes", "[optim]") {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    FlatParameters parameters(sample_specs(), at::kCPU, dtype);
    REQUIRE_NOTHROW(parameters.check_views());
    for (const auto& spec : sample_specs()) {
      const Parameter& p = *parameters.table().at(spec.name);
      const bool matrix = spec.kind == ParameterKind::matrix;
      const FlatBuffer& buffer = matrix ? parameters.matrices() : parameters.vectors();
      INFO(spec.name);
      REQUIRE(p.weight.scalar_type() == (matrix ? dtype : at::kFloat));
      REQUIRE(p.weight.storage().is_alias_of(buffer.compute.storage()));
      REQUIRE(p.weight.storage_offset() * p.weight.element_size() % 256 == 0);
      REQUIRE(p.grad.storage().is_alias_of(buffer.grad.storage()));
      REQUIRE(p.grad.storage_offset() == p.weight.storage_offset());
      REQUIRE((p.weight.is_leaf() && p.weight.requires_grad()));
      REQUIRE(p.weight.sizes() == at::IntArrayRef(spec.shape));
    }
  }
}

TEST_CASE("flat_parameters: what would detach a view is noticed", "[optim]") {
  FlatParameters parameters(sample_specs(), at::kCPU, at::kFloat);
  at::Tensor weight = parameters.table().at("mixer.in")->weight;  // the same tensor, not a copy
  weight.set_data(weight.detach().clone());
  REQUIRE(contains(message_of([&] { parameters.check_views(); }), "weight of mixer.in"));
}

TEST_CASE("flat_parameters: f32 computes on the master itself, bf16 on a rounded copy", "[optim]") {
  FlatParameters f32(sample_specs(), at::kCPU, at::kFloat);
  REQUIRE(f32.matrices().compute.is_same(f32.matrices().master));
  FlatParameters bf16(sample_specs(), at::kCPU, at::kBFloat16);
  initialize(bf16, 1);
  REQUIRE(same_bits(bf16.matrices().compute, bf16.matrices().master.to(at::kBFloat16)));
  REQUIRE(bf16.vectors().compute.is_same(bf16.vectors().master));
}

TEST_CASE("flat_parameters: decayed parameters come first, in one range", "[optim]") {
  const FlatParameters parameters(sample_specs(), at::kCPU, at::kFloat);
  for (const auto& spec : sample_specs()) {
    const bool matrix = spec.kind == ParameterKind::matrix;
    const int64_t decayed = matrix ? parameters.matrices().decayed : parameters.vectors().decayed;
    const at::Tensor& weight = parameters.table().at(spec.name)->weight;
    INFO(spec.name);
    if (spec.weight_decay)
      REQUIRE(weight.storage_offset() + weight.numel() <= decayed);
    else
      REQUIRE(weight.storage_offset() >= decayed);
  }
}

TEST_CASE("flat_parameters: only elements of logical tensors count", "[optim]") {
  REQUIRE(FlatParameters(sample_specs(), at::kCPU, at::kFloat).parameter_count() == kSampleCount);
}

TEST_CASE("flat_parameters: initial values leave padding rows and gaps at zero", "[optim]") {
  FlatParameters parameters(sample_specs(), at::kCPU, at::kFloat);
  initialize(parameters, 1);
  const at::Tensor& packed = parameters.table().at("mixer.in")->weight;
  REQUIRE(max_abs(packed.narrow(0, 3, 1)) == 0);
  REQUIRE(max_abs(packed.narrow(0, 12, 4)) == 0);
  int64_t logical = 0;
  for (const LogicalView& tensor : parameters.logical())
    logical += tensor.weight.count_nonzero().item<int64_t>();
  const int64_t all = parameters.matrices().master.count_nonzero().item<int64_t>() +
                      parameters.vectors().master.count_nonzero().item<int64_t>();
  REQUIRE(all == logical);
}

TEST_CASE("flat_parameters: saving and loading gives the same bits under every logical name", "[optim]") {
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
    FlatParameters source(sample_specs(), at::kCPU, dtype), target(sample_specs(), at::kCPU, dtype);
    const StateDict state = saved(filled(source));
    REQUIRE(state.tensors.size() == 3 * source.logical().size());
    REQUIRE(state.tensors.at("adam_v/dt").sizes() == at::IntArrayRef({8, 7}));
    initialize(target, 99);
    target.matrices().m.fill_(3);  // padding included
    target.matrices().grad.fill_(3);
    target.load_state(state);
    for (const auto part :
         {&FlatBuffer::compute, &FlatBuffer::master, &FlatBuffer::grad, &FlatBuffer::m, &FlatBuffer::v}) {
      REQUIRE(same_bits(source.matrices().*part, target.matrices().*part));
      REQUIRE(same_bits(source.vectors().*part, target.vectors().*part));
    }
    REQUIRE_NOTHROW(target.check_views());
  }
}

TEST_CASE("flat_parameters: of the gradients of the step before nothing remains", "[optim]") {
  FlatParameters parameters(sample_specs(), at::kCPU, at::kFloat);
  for (const auto& [name, parameter] : parameters.table().all()) at::Tensor(parameter->grad).fill_(NAN);
  parameters.start_gradients();
  const ParameterPtr& written = parameters.table().at("mixer.in");
  REQUIRE_FALSE(written->begin_adding());
  REQUIRE(written->begin_adding());
  at::Tensor(written->grad).fill_(2);
  parameters.complete_gradients();
  for (const auto& [name, parameter] : parameters.table().all()) {
    CAPTURE(name);
    REQUIRE(parameter->has_sum());
    REQUIRE(max_abs_diff(parameter->grad, at::full_like(parameter->grad, name == "mixer.in" ? 2 : 0)) == 0);
  }
}

TEST_CASE("flat_parameters: a state of another model is refused, names its tensor and changes nothing",
          "[optim]") {
  FlatParameters parameters(sample_specs(), at::kCPU, at::kBFloat16);
  const StateDict good = saved(filled(parameters));
  const at::Tensor before = parameters.matrices().master.clone();
  const auto refused = [&](const StateDict& state) {
    REQUIRE_THROWS_AS(parameters.load_state(state), InputError);
    const std::string message = message_of([&] { parameters.load_state(state); });
    REQUIRE(same_bits(parameters.matrices().master, before));
    return message;
  };

  StateDict state = good;
  state.tensors["model/c"] = state.tensors["model/c"].narrow(0, 0, 2);
  REQUIRE(contains(refused(state), "model/c has the shape [2, 7], this model needs [3, 7]"));
  state = good;
  state.tensors.erase("adam_m/norm");
  REQUIRE(contains(refused(state), "adam_m/norm is missing"));
  state = good;
  state.tensors["model/layers.9.c"] = state.tensors["model/c"];
  REQUIRE(contains(refused(state), "model/layers.9.c has no place"));
  state = good;
  state.tensors["adam_v/c"] = state.tensors["adam_v/c"].to(at::kDouble);
  REQUIRE(contains(refused(state), "adam_v/c has the type Double, expected Float"));
}

TEST_CASE("flat_parameters: weights alone load for training and for inference", "[optim]") {
  FlatParameters source(sample_specs(), at::kCPU, at::kFloat);
  StateDict state = saved(filled(source));

  FlatParameters training(sample_specs(), at::kCPU, at::kBFloat16);
  filled(training).load_weights(state);
  REQUIRE(same_bits(training.matrices().master, source.matrices().master));
  REQUIRE(same_bits(training.matrices().compute, source.matrices().master.to(at::kBFloat16)));
  REQUIRE(max_abs(training.matrices().m) == 0);

  FlatParameters inference(sample_specs(), at::kCPU, at::kBFloat16, ParameterUse::inference);
  inference.load_weights(state);
  REQUIRE(same_bits(inference.matrices().compute, training.matrices().compute));
  REQUIRE_NOTHROW(inference.check_views());
  REQUIRE(!inference.matrices().master.defined());
  REQUIRE(!inference.table().at("norm")->grad.defined());
  REQUIRE(!inference.table().at("norm")->weight.requires_grad());

  for (auto& [name, tensor] : state.tensors) tensor = tensor.to(at::kBFloat16);
  REQUIRE_NOTHROW(training.load_weights(state));
  state.tensors.erase("model/embed");
  REQUIRE(contains(message_of([&] { training.load_weights(state); }), "model/embed is missing"));
}

TEST_CASE("flat_parameters: specs that overlap, overflow or repeat a name are refused", "[optim]") {
  const auto refuses = [](const std::vector<ParameterSpec>& specs) {
    REQUIRE_THROWS(FlatParameters(specs, at::kCPU, at::kFloat));
  };
  const auto packed = [](std::vector<LogicalTensor> parts) {
    return std::vector<ParameterSpec>{{"w", ParameterKind::matrix, {8, 3}, true, std::move(parts)}};
  };
  refuses(packed({{"a", {4, 3}, 0, {}}, {"b", {4, 3}, 3, {}}}));
  refuses(packed({{"a", {4, 3}, 5, {}}}));
  refuses(packed({{"a", {4, 2}, 0, {}}}));
  refuses(packed({{"a", {4, 3}, 0, {}}, {"a", {4, 3}, 4, {}}}));
  refuses({sample_specs()[0], sample_specs()[0]});
}
