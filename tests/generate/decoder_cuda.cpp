// The captured decode step gives the tokens of plain steps, also of other prompts later on.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/rng.h"
#include "generate/decoder.h"
#include "support/catch.h"
#include "support/tiny_model.h"

using namespace transxssm;
using namespace transxssm::test;

namespace {

const at::Device kGpu(at::kCUDA, 0);
constexpr int64_t kNew = 12, kVocabulary = 57;  // the last four ids stand for nothing

std::vector<DecodeRequest> requests(uint64_t seed) {
  std::vector<DecodeRequest> rows;
  for (const int64_t length : {3, 40, 17}) {
    const auto ids = random_tokens(1, length, seed++, kVocabulary);
    rows.push_back({{ids.const_data_ptr<int64_t>(), ids.const_data_ptr<int64_t>() + length}, seed});
  }
  return rows;
}

std::vector<std::vector<int64_t>> by_decoder(Decoder& decoder, const std::vector<DecodeRequest>& rows) {
  decoder.start(rows);
  std::vector<std::vector<int64_t>> drawn{decoder.tokens()};
  while (static_cast<int64_t>(drawn.size()) < kNew) {
    decoder.step();
    drawn.push_back(decoder.tokens());
  }
  return drawn;
}

// The same with nothing but the model's own steps.
std::vector<std::vector<int64_t>> plain(const HybridModel& model, const std::vector<DecodeRequest>& rows,
                                        const SamplingOptions& sampling) {
  const at::NoGradGuard no_grad;
  DecodeState state = model.start_decoding(3, 60);
  auto tokens = at::zeros({3, 40}, at::kLong);
  std::vector<int64_t> lengths;
  for (size_t b = 0; b < 3; ++b) {
    const auto& prompt = rows[b].prompt;
    lengths.push_back(static_cast<int64_t>(prompt.size()));
    tokens[static_cast<int64_t>(b)].narrow(0, 0, lengths[b]).copy_(at::tensor(prompt, at::kLong));
  }
  std::vector<std::vector<int64_t>> drawn;
  at::Tensor logits = model.prefill(make_prompts(tokens.to(model.device()), lengths), state);
  for (uint64_t n = 0;; ++n) {
    std::vector<double> uniforms;
    for (const auto& row : rows) uniforms.push_back(Philox(row.seed).uniform(n));
    const auto next = sample(logits.narrow(1, 0, kVocabulary), sampling,
                             at::tensor(uniforms, at::kDouble).to(model.device()));
    const auto host = next.cpu();
    drawn.emplace_back(host.const_data_ptr<int64_t>(), host.const_data_ptr<int64_t>() + 3);
    if (drawn.size() == kNew) return drawn;
    logits = model.step(next, state);
  }
}

}  // namespace

TEST_CASE("decoder on CUDA: captured steps draw what plain ones draw", "[generate][cuda]") {
  const std::string architecture =
      GENERATE("transxssm", "transformer", "mamba2", "hybrid-plain", "everything");
  const bool wide = GENERATE(false, true);
  const double temperature = GENERATE(0.0, 0.9);
  CAPTURE(architecture, wide, temperature);
  ModelConfig config = tiny_config(architecture);
  if (wide && architecture != "everything") {
    config.hidden_size = config.intermediate_size = 256;
    config.attention.head_dim = config.ssd.head_dim = config.ssd.state_dim = 128;
    if (architecture == "mamba2") config.intermediate_size = 0;
  }
  FlatParameters parameters(HybridModel::parameter_specs(config), kGpu, wide ? at::kBFloat16 : at::kFloat,
                            ParameterUse::inference);
  initialize(parameters, 7);
  const HybridModel model(config, parameters.table(), {64});
  const SamplingOptions sampling{.temperature = temperature, .top_k = 40, .top_p = 0.95};
  Decoder decoder(
      model,
      {.batch = 3, .capacity = 60, .max_new_tokens = kNew, .vocab_size = kVocabulary, .sampling = sampling});
  for (const uint64_t seed : {1, 10, 20}) {
    CAPTURE(seed);
    REQUIRE(by_decoder(decoder, requests(seed)) == plain(model, requests(seed), sampling));
  }
}
