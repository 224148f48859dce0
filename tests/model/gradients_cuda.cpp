// Gradients of whole models on a GPU: bf16 by kernels and by the reference paths, against fp64 on the CPU.
#include "gradient_model.h"
#include "optim/init.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/tiny_model.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

// What the kernels take: widths of 128, eight heads.
ModelConfig wide_config(const std::string& architecture) {
  ModelConfig config = tiny_config(architecture);
  config.hidden_size = config.intermediate_size = 256;
  config.init_std = 0.06;
  config.attention.head_dim = config.ssd.head_dim = config.ssd.state_dim = 128;
  if (config.ssd.num_groups > 1) config.ssd.num_groups = 8;
  config.ssd.num_heads = 8;
  return config;
}

const ModelOptions kReference{.max_positions = 512,
                              .ssd_path = ops::SsdPath::reference,
                              .attention_path = ops::AttentionPath::reference};

}  // namespace

// Both paths round activations to bf16 between operators, so neither is near fp64; by how much, the reference
// shows. The kernels round at fewer places than it or at others, never more often.
TEST_CASE("gradients of whole models on CUDA: as near to fp64 as the reference paths'", "[cuda]") {
  const at::Tensor tokens = random_tokens(2, 300, 1), labels = random_tokens(2, 300, 2);
  for (const char* architecture : {"transxssm", "transformer", "mamba2", "hybrid-plain"}) {
    for (const auto& offsets :
         {at::tensor({0, 300, 600}, at::kInt), at::tensor({0, 1, 128, 300, 363, 364, 600}, at::kInt)}) {
      CAPTURE(architecture, offsets.numel());
      const ModelConfig config = wide_config(architecture);
      GradientModel kernels(config, at::kCUDA, at::kBFloat16, {512}),
          reference(config, at::kCUDA, at::kBFloat16, kReference),
          exact(config, at::kCPU, at::kDouble, {512});
      initialize(kernels.parameters, 7);
      reference.copy_weights(kernels.parameters);
      exact.copy_weights(kernels.parameters);
      for (GradientModel* model : {&kernels, &reference, &exact})
        model->differentiate(tokens, labels, offsets);
      for (const auto& [name, parameter] : exact.parameters.table().all()) {
        const double by_kernels = rms_error(kernels.parameters.table().at(name)->grad, parameter->grad),
                     by_reference = rms_error(reference.parameters.table().at(name)->grad, parameter->grad);
        CAPTURE(name, by_kernels, by_reference);
        // Of a few sums (A_log, dt_bias: one a head) the error itself is a matter of chance.
        const double as_much = parameter->weight.numel() < 100 ? 3 : 1.5;
        REQUIRE(by_kernels <= as_much * by_reference + 0x1p-7);
      }
    }
  }
}
