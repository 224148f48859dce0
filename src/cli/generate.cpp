#include "cli/generate.h"

#include <cmath>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>

#include "cli/command_line.h"
#include "core/check.h"
#include "core/logging.h"
#include "model/sampler.h"
#include "trainer/inference.h"

namespace transxssm {
namespace {

struct Options {
  std::string checkpoint;
  std::string prompt;
  std::string tokenizer;
  std::string device = "auto";
  int64_t max_new_tokens = 200;
  SamplingOptions sampling{.temperature = 0.8, .top_p = 0.95};
};

Device device_of(const std::string& name) {
  if (name == "cpu") return Device::cpu;
  return name == "cuda" ? Device::cuda : Device::automatic;
}

// Prints the prompt and then every token as soon as it is drawn, until EOS or the limit.
void generate(const Options& options) {
  for (const auto& [flag, value] : {std::pair("--temperature", options.sampling.temperature),
                                    std::pair("--top-p", options.sampling.top_p)})
    expect_input(std::isfinite(value), concat(flag, " is ", value, "; it must be a finite number"));
  const Tokenizer tokenizer(find_tokenizer(options.checkpoint, options.tokenizer));
  std::vector<int64_t> prompt{tokenizer.bos_id()};
  for (const int32_t id : tokenizer.encode(options.prompt)) prompt.push_back(id);
  const int64_t max_tokens = static_cast<int64_t>(prompt.size()) + options.max_new_tokens;
  const auto loaded = load_for_inference(options.checkpoint, device_of(options.device), max_tokens);
  const int64_t vocab_size = loaded.config.model.vocab_size;
  expect_input(tokenizer.vocab_size() <= vocab_size,
               concat("the tokenizer has ", tokenizer.vocab_size(), " pieces, the model only ", vocab_size));
  log_info(concat("step ", loaded.step, " on ", loaded.device.name));

  const auto feed = [&](const std::vector<int64_t>& ids, DecodeState& state) {
    const auto tokens = at::tensor(ids, at::kLong).unsqueeze(0).to(loaded.model->device());
    // Rows past the tokenizer's vocabulary are padding and stand for nothing.
    return loaded.model->decode(tokens, state)[0].narrow(0, 0, tokenizer.vocab_size());
  };
  Sampler sampler(options.sampling);
  DecodeState state = loaded.model->start_decoding(1, max_tokens);
  std::cout << options.prompt << std::flush;
  auto logits = feed(prompt, state);
  for (int64_t i = 0; i < options.max_new_tokens; ++i) {
    const int64_t next = sampler.next(logits);
    if (next == tokenizer.eos_id()) break;
    std::cout << tokenizer.decode_piece(static_cast<int32_t>(next)) << std::flush;
    if (i + 1 < options.max_new_tokens) logits = feed({next}, state);
  }
  std::cout << '\n';
}

}  // namespace

void add_generate_command(CLI::App& app) {
  auto* command = app.add_subcommand("generate", "Continue a prompt with a trained model");
  auto options = std::make_shared<Options>();
  command->add_option("--checkpoint", options->checkpoint, "Run folder or step folder")->required();
  command->add_option("--prompt", options->prompt, "Text to continue (default: none, a new document)");
  command->add_option("--max-new-tokens", options->max_new_tokens, "Stop after so many tokens")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  command->add_option("--temperature", options->sampling.temperature, "0 takes the most likely token")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command->add_option("--top-k", options->sampling.top_k, "Draw among the k most likely tokens; 0: all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 31))
      ->capture_default_str();
  command
      ->add_option("--top-p", options->sampling.top_p,
                   "Draw among the fewest tokens with this much probability")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--seed", options->sampling.seed, "The same seed gives the same text")
      ->check(seed_range())
      ->capture_default_str();
  command->add_option("--tokenizer", options->tokenizer, "SentencePiece model (default: the run's)");
  command->add_option("--device", options->device, "Where to compute")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  command->callback([options] { generate(*options); });
}

}  // namespace transxssm
