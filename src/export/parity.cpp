#include "export/parity.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "checkpoint/safetensors.h"
#include "core/check.h"
#include "core/rng.h"
#include "ops/documents.h"

namespace transxssm {
namespace {

constexpr int64_t kPromptTokens = 16;
constexpr int64_t kSampledEvery = 5;  // logits that travel with the folder

constexpr std::string_view kText =
    "The water came down from the hills in the night and by the morning it stood at the door. Nobody had "
    "seen it so high since the year of the great flood, when the mill was carried away and the miller "
    "with it. He was found, they say, eleven miles below the bridge, sitting on his own roof with a cat "
    "in his arms; and the first thing that he asked for was a pipe. In 1871 the new bridge was built (it "
    "cost 4,200 pounds) of grey stone from the quarry at the head of the valley, and it has three "
    "arches, of which the middle one is the widest. Whether it would bear a flood like the first is a "
    "question that the old men still discuss on Sundays.";

// An endless supply of ids.
class Ids {
 public:
  Ids(const Tokenizer* tokenizer, int64_t vocab_size) : vocab_size_(vocab_size) {
    if (tokenizer)
      for (const int32_t id : tokenizer->encode(kText)) text_.push_back(id);
  }
  int64_t next() {
    const auto i = drawn_++;
    if (!text_.empty()) return text_[i % text_.size()];
    return static_cast<int64_t>(random_.uniform(i) * static_cast<double>(vocab_size_));
  }
  // One document of `length` tokens.
  void append(std::vector<int64_t>& to, int64_t length, int64_t bos_id) {
    for (int64_t i = 0; i < length; ++i) to.push_back(i == 0 && bos_id >= 0 ? bos_id : next());
  }

 private:
  int64_t vocab_size_;
  std::vector<int64_t> text_;
  uint64_t drawn_ = 0;
  Philox random_{20250609};
};

}  // namespace

int64_t ParityInput::positions_needed() const {
  return std::max(tokens_bt.size(1), prompts_bt.size(1) + greedy_tokens);
}

ParityInput parity_input(const ModelConfig& config, const Tokenizer* tokenizer, int64_t bos_id,
                         const ParityOptions& options) {
  const int64_t length = config.ssd.chunk_size + 32;
  const std::vector<int64_t> documents{length, 1, 7, 16, length - 24};  // the first is row 0
  Ids ids(tokenizer, config.vocab_size);
  std::vector<int64_t> tokens, prompts;
  std::vector<int32_t> offsets{0};
  for (const int64_t document : documents) {
    ids.append(tokens, document, bos_id);
    offsets.push_back(static_cast<int32_t>(tokens.size()));
  }
  for (int64_t i = 0; i < options.greedy_prompts; ++i) ids.append(prompts, kPromptTokens, bos_id);
  return {at::tensor(tokens, at::kLong).view({2, length}), at::tensor(offsets, at::kInt),
          at::tensor(prompts, at::kLong).view({options.greedy_prompts, kPromptTokens}),
          options.greedy_tokens};
}

at::Tensor parity_logits(const HybridModel& model, const ParityInput& input) {
  const at::NoGradGuard no_grad;
  const auto documents = ops::make_documents(input.offsets, input.tokens_bt.size(0), input.tokens_bt.size(1));
  return model.logits(input.tokens_bt, documents).flatten(0, 1).to(at::kFloat);
}

LogitsDifference compare_logits(const at::Tensor& reference_nv, const at::Tensor& other_nv) {
  LogitsDifference out;
  int64_t agreed = 0;
  const int64_t tokens = reference_nv.size(0);
  std::vector<double> largest;
  for (int64_t i = 0; i < tokens; ++i) {  // row by row: few copies of a large vocabulary
    const at::Tensor a = reference_nv[i].to(at::kDouble), b = other_nv[i].to(at::kDouble);
    const at::Tensor difference = (a - b).abs();
    const at::Tensor log_p = at::log_softmax(a, 0), log_q = at::log_softmax(b, 0);
    largest.push_back(difference.max().item<double>());
    out.mean_abs += difference.mean().item<double>() / static_cast<double>(tokens);
    out.kl += (log_p.exp() * (log_p - log_q)).sum().item<double>() / static_cast<double>(tokens);
    agreed += a.argmax().equal(b.argmax());
  }
  out.max_abs = at::tensor(largest).max().item<double>();  // NaN if one of them is
  out.greedy_agreement = static_cast<double>(agreed) / static_cast<double>(tokens);
  return out;
}

nlohmann::json to_json(const LogitsDifference& difference) {
  return {{"max_abs", difference.max_abs},
          {"mean_abs", difference.mean_abs},
          {"kl", difference.kl},
          {"greedy_agreement", difference.greedy_agreement}};
}

double parity_limit(const at::Tensor& reference_nv) {
  return 1e-5 * std::max(1.0, reference_nv.abs().max().item<double>());
}

void expect_same(const LogitsDifference& difference, double limit) {
  // Where no logarithm of a probability differs by more than twice the limit, KL cannot either. Comparisons
  // that hold: NaN fails each.
  const bool same = difference.max_abs <= limit && difference.mean_abs <= limit && difference.kl <= 2 * limit;
  expect(same, concat("the exported folder computes something else: logits differ by up to ",
                      difference.max_abs, ", on average by ", difference.mean_abs, ", KL ", difference.kl,
                      "; rounding allows ", limit, "; nothing was written"));
}

void write_parity_tensors(const std::filesystem::path& folder, const HybridModel& model,
                          const ParityInput& input, const at::Tensor& logits_nv) {
  const auto documents = ops::make_documents(input.offsets, input.tokens_bt.size(0), input.tokens_bt.size(1));
  const at::Tensor sampled = at::arange(kSampledEvery - 1, logits_nv.size(0), kSampledEvery, at::kLong);
  const at::Tensor ends = input.offsets.slice(0, 1).to(at::kLong) - 1;
  const at::Tensor places = at::cat({sampled, ends});

  std::vector<at::Tensor> drawn;
  if (input.prompts_bt.size(0) > 0 && input.greedy_tokens > 0) {
    DecodeState state =
        model.start_decoding(input.prompts_bt.size(0), input.prompts_bt.size(1) + input.greedy_tokens);
    const std::vector<int64_t> lengths(static_cast<size_t>(input.prompts_bt.size(0)),
                                       input.prompts_bt.size(1));
    drawn.push_back(model.prefill(make_prompts(input.prompts_bt, lengths), state).argmax(-1));
    while (static_cast<int64_t>(drawn.size()) < input.greedy_tokens)
      drawn.push_back(model.step(drawn.back(), state).argmax(-1));
  }
  const at::Tensor greedy =
      drawn.empty() ? at::empty({input.prompts_bt.size(0), 0}, at::kLong) : at::stack(drawn, 1);
  write_safetensors(folder / "parity.safetensors",
                    NamedTensors{{"tokens", input.tokens_bt},
                                 {"positions", documents.positions},
                                 {"places", places},
                                 {"prompts", input.prompts_bt},
                                 {"greedy", greedy},
                                 {"logits", logits_nv.index_select(0, places)}});
}

}  // namespace transxssm
