// Weights and gradients that ranks share: nobody reads a buffer after its use, or before it is filled.
#include "optim/weight_ring.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <ATen/core/grad_mode.h>

#include "distributed/forked_ranks.h"
#include "optim/optimizer.h"
#include "optim/parameter_exchange.h"
#include "support/catch.h"
#include "support/tiny_model.h"

namespace transxssm::test {
namespace {

constexpr int64_t kTokens = 40;
constexpr int kSteps = 3, kMicroSteps = 2;

ModelConfig deep(const std::string& architecture) {
  ModelConfig config = tiny_config(architecture);
  config.num_layers = 6;
  return config;
}

// Of a model at stage 3. With `spoil` buffers hold NaN from their use to the next.
class SharedModel {
 public:
  SharedModel(const ModelConfig& config, Recompute recompute, const Mesh& mesh, bool spoil)
      : first_specs_(HybridModel::first_specs(config)),
        spoil_(spoil),
        parameters_(HybridModel::parameter_specs(config), at::kCPU, at::kFloat, ParameterUse::training,
                    {.rank = mesh.rank(), .ranks = mesh.size(), .stage = 3, .blocks = first_specs_}),
        exchange_(parameters_, mesh, at::kFloat),
        model_(config, parameters_.table(),
               {.max_positions = kTokens,
                .recompute = recompute,
                .weights_needed = [this](size_t first) { weights_needed(first); }}),
        optimizer_(parameters_, {}, &exchange_) {
    initialize(parameters_, 7);
    optimizer_.set_learning_rate(0.01);
  }

  // Loss, norm of the gradients and held-out loss of some steps.
  std::vector<float> train(int rank) {
    const ops::Documents documents = ops::one_document_per_row(2, kTokens, at::kCPU);
    std::vector<float> numbers;
    for (int step = 0; step < kSteps; ++step) {
      const at::Tensor loss = at::zeros({}), votes = at::zeros({});
      parameters_.start_gradients();
      for (int micro = 0; micro < kMicroSteps; ++micro) {
        if (spoil_) at::Tensor(parameters_.matrices().grad_ring).fill_(kNan);
        const auto seed = static_cast<uint64_t>(100 * rank + 10 * step + micro);
        exchange_.start_gradients({micro == 0, micro + 1 == kMicroSteps});
        loss.add_(model_
                      .add_gradients(random_tokens(2, kTokens, seed), random_tokens(2, kTokens, seed + 5),
                                     documents, at::full({}, 1e-2), 0,
                                     [this](size_t first) { gradients_final(first); })
                      .loss);
        exchange_.finish_gradients();
      }
      parameters_.complete_gradients();
      optimizer_.update(loss, votes);
      const at::Tensor tokens = random_tokens(2, kTokens, 1000);
      numbers.insert(numbers.end(), {loss.item<float>(), optimizer_.grad_norm().item<float>(),
                                     model_.loss(tokens, tokens, documents).item<float>()});
    }
    return numbers;
  }

 private:
  static constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

  size_t unit_of(size_t spec) const {
    return static_cast<size_t>(std::upper_bound(first_specs_.begin(), first_specs_.end(), spec) -
                               first_specs_.begin());
  }
  void spoil(size_t unit) const {
    for (const Bucket& bucket : parameters_.matrices().buckets)
      if (spoil_ && unit_of(bucket.specs.front()) == unit)
        parameters_.matrices().weight_ring.narrow(0, bucket.in_ring, bucket.size()).fill_(kNan);
  }
  // The last blocks stay for the backward pass.
  void weights_needed(size_t first_spec) {
    const at::NoGradGuard no_grad;
    const size_t unit = unit_of(first_spec), last_block = first_specs_.size() - 1;
    if (unit >= 2 && unit < last_block) spoil(unit - 1);
    exchange_.weights_needed(first_spec);
  }
  void gradients_final(size_t first_spec) {
    const at::NoGradGuard no_grad;
    const size_t unit = unit_of(first_spec);
    spoil(unit);
    if (unit == first_specs_.size()) spoil(0);
    exchange_.gradients_final(first_spec);
  }

  std::vector<size_t> first_specs_;
  bool spoil_;
  FlatParameters parameters_;
  ParameterExchange exchange_;
  HybridModel model_;
  Optimizer optimizer_;
};

TEST_CASE("shared weights: nothing of a buffer is read after its use") {
  const std::string architecture = GENERATE(from_range(architectures()));
  const auto recompute = GENERATE(Recompute::none, Recompute::selective, Recompute::full);
  CAPTURE(architecture, recompute);
  const auto errors = errors_of_ranks(2, [&](Mesh& mesh) {
    const auto train = [&](bool spoil) {
      return SharedModel(deep(architecture), recompute, mesh, spoil).train(mesh.rank());
    };
    const std::vector<float> clean = train(false);
    for (const float number : clean) expect(std::isfinite(number), "a number is not finite");
    expect(train(true) == clean, "other numbers with spoilt buffers");
  });
  CHECK(errors == std::vector<std::string>(2));
}

TEST_CASE("shared weights: memory of a rank falls with each stage") {
  ModelConfig config = deep("everything");
  config.num_layers = 24;
  const auto bytes = [&](int64_t stage, int64_t ranks) {
    return FlatParameters::bytes_needed(
               HybridModel::parameter_specs(config), at::kBFloat16, ParameterUse::training,
               {.ranks = ranks, .stage = stage, .blocks = HybridModel::first_specs(config)})
        .total();
  };
  for (const int64_t ranks : {2, 4})
    for (const int64_t stage : {1, 2, 3}) {
      CAPTURE(ranks, stage);
      CHECK(bytes(stage, ranks) < bytes(stage - 1, ranks));
    }
}

TEST_CASE("shared weights: what is planned is what is allocated") {
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16);
  const ModelConfig config = deep("everything");
  const Sharding sharding{.rank = 1, .ranks = 3, .stage = 3, .blocks = HybridModel::first_specs(config)};
  const auto specs = HybridModel::parameter_specs(config);
  const FlatParameters parameters(specs, at::kCPU, dtype, ParameterUse::training, sharding);
  parameters.check_views();
  uint64_t bytes = 0;
  for (const FlatBuffer* buffer : {&parameters.matrices(), &parameters.vectors()}) {
    for (const at::Tensor& tensor :
         {buffer->compute, buffer->grad, buffer->m, buffer->v, buffer->grad_ring, buffer->weight_ring})
      if (tensor.defined()) bytes += tensor.nbytes();
    if (!buffer->master.is_same(buffer->compute)) bytes += buffer->master.nbytes();
  }
  CHECK(FlatParameters::bytes_needed(specs, dtype, ParameterUse::training, sharding).total() == bytes);
}

}  // namespace
}  // namespace transxssm::test
