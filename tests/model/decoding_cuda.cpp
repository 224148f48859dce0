// Decoding on a GPU: bf16 kernels lose no more against f32 than one pass does, batches of prompts of any
// length included.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "support/catch.h"
#include "support/compare.h"
#include "support/tiny_model.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

const at::Device kGpu(at::kCUDA, 0);

// Widths that the kernels take.
ModelConfig wide_config(const std::string& architecture) {
  ModelConfig c = tiny_config(architecture);
  c.hidden_size = 256;
  if (c.intermediate_size > 0) c.intermediate_size = 256;
  c.init_std = 0.05;
  c.attention.head_dim = c.ssd.head_dim = c.ssd.state_dim = 128;
  c.ssd.chunk_size = 128;
  return c;
}

struct ModelOn {
  ModelOn(const ModelConfig& config, at::Device device, at::ScalarType dtype)
      : parameters(HybridModel::parameter_specs(config), device, dtype, ParameterUse::inference),
        model(config, parameters.table(), {512}) {
    initialize(parameters, 7);
  }
  FlatParameters parameters;
  HybridModel model;
};

// bf16 weights on the GPU, and the same values in f32 on the CPU.
struct Pair {
  explicit Pair(const ModelConfig& config)
      : gpu(config, kGpu, at::kBFloat16), cpu(config, at::kCPU, at::kFloat) {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < gpu.parameters.logical().size(); ++i)
      cpu.parameters.logical()[i].weight.copy_(gpu.parameters.logical()[i].weight);
  }
  ModelOn gpu, cpu;
};

at::Tensor one_pass(const HybridModel& model, const at::Tensor& tokens_bt) {
  const at::Tensor there = tokens_bt.to(model.device());
  return model.logits(there, ops::one_document_per_row(there.size(0), there.size(1), there.device()));
}

// Logits of the last prompt token of each row and of `steps` further tokens, [steps + 1, B, V].
at::Tensor decoded(const HybridModel& model, const at::Tensor& tokens_bt, const std::vector<int64_t>& lengths,
                   int64_t steps) {
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  DecodeState state = model.start_decoding(tokens_bt.size(0), longest + steps);
  const at::Tensor prompts = tokens_bt.narrow(1, 0, longest).to(model.device());
  std::vector<at::Tensor> out{model.prefill(make_prompts(prompts, lengths), state)};
  for (int64_t i = 0; i < steps; ++i) {
    std::vector<int64_t> next;
    for (size_t b = 0; b < lengths.size(); ++b)
      next.push_back(tokens_bt[static_cast<int64_t>(b)][lengths[b] + i].item<int64_t>());
    out.push_back(model.step(at::tensor(next, at::kLong).to(model.device()), state));
  }
  return at::stack(out);
}

// The same places of a pass over everything.
at::Tensor places(const at::Tensor& logits_btv, const std::vector<int64_t>& lengths, int64_t steps) {
  std::vector<at::Tensor> rows;
  for (size_t b = 0; b < lengths.size(); ++b)
    rows.push_back(logits_btv[static_cast<int64_t>(b)].narrow(0, lengths[b] - 1, steps + 1));
  return at::stack(rows, 1);
}

}  // namespace

TEST_CASE("decoding on CUDA: prompts of every length in one batch lose no more than one pass",
          "[model][cuda]") {
  const at::NoGradGuard no_grad;
  const std::string architecture = GENERATE("transxssm", "transformer", "mamba2", "hybrid-plain");
  CAPTURE(architecture);
  const Pair pair(wide_config(architecture));
  const std::vector<int64_t> lengths{1, 2, 63, 64, 65, 127, 128, 129, 255, 256, 257};
  const auto tokens = random_tokens(static_cast<int64_t>(lengths.size()), 270, 3);
  const auto exact = places(one_pass(pair.cpu.model, tokens), lengths, 10);
  const auto whole = places(one_pass(pair.gpu.model, tokens), lengths, 10);
  const auto together = decoded(pair.gpu.model, tokens, lengths, 10);
  INFO("one pass " << rms_error(whole, exact) << ", decoded " << rms_error(together, exact));
  REQUIRE(rms_error(together, exact) <= 1.5 * rms_error(whole, exact));
  for (size_t b = 0; b < lengths.size(); ++b) {
    const auto row = static_cast<int64_t>(b);
    const auto alone = decoded(pair.gpu.model, tokens.narrow(0, row, 1), {lengths[b]}, 10);
    CAPTURE(lengths[b]);
    REQUIRE(rms_error(alone.select(1, 0), exact.select(1, row)) <= 2 * rms_error(whole, exact));
  }
}

TEST_CASE("decoding on CUDA: what stands behind a row's prompt changes nothing, bit for bit",
          "[model][cuda]") {
  const at::NoGradGuard no_grad;
  const std::string architecture = GENERATE("transxssm", "transformer", "mamba2", "hybrid-plain");
  CAPTURE(architecture);
  const ModelOn gpu(wide_config(architecture), kGpu, at::kBFloat16);
  const std::vector<int64_t> lengths{5, 200, 130};
  std::vector<at::Tensor> seen;
  for (const int64_t behind : {0, 60}) {
    auto tokens = random_tokens(3, 200, 12);
    for (int64_t b = 0; b < 3; ++b) tokens[b].slice(0, lengths[static_cast<size_t>(b)]).fill_(behind);
    DecodeState state = gpu.model.start_decoding(3, 210);
    seen.push_back(gpu.model.prefill(make_prompts(tokens.to(kGpu), lengths), state));
    for (uint64_t i = 0; i < 7; ++i)
      seen.push_back(gpu.model.step(random_tokens(1, 3, 13 + i)[0].to(kGpu), state));
  }
  for (size_t i = 0; i < seen.size() / 2; ++i) REQUIRE(at::equal(seen[i], seen[i + seen.size() / 2]));
}

TEST_CASE("decoding on CUDA: f32 gives what the CPU gives", "[model][cuda]") {
  const at::NoGradGuard no_grad;
  const std::string architecture =
      GENERATE("transxssm", "transformer", "mamba2", "hybrid-plain", "everything");
  CAPTURE(architecture);
  const ModelOn gpu(tiny_config(architecture), kGpu, at::kFloat),
      cpu(tiny_config(architecture), at::kCPU, at::kFloat);
  const auto tokens = random_tokens(3, 60, 3);
  const std::vector<int64_t> lengths{17, 33, 1};
  const auto expected = decoded(cpu.model, tokens, lengths, 20);
  REQUIRE(rms_error(decoded(gpu.model, tokens, lengths, 20), expected) < 1e-4);
}
