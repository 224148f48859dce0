#include "generate/decoder.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include "core/check.h"
#include "core/rng.h"

namespace transxssm {
namespace {

std::unique_ptr<GraphPool> pool_on(at::Device device) {
  if (!device.is_cuda()) return nullptr;
  return std::make_unique<GraphPool>();
}

}  // namespace

Decoder::Decoder(const HybridModel& model, const DecoderOptions& options)
    : model_(model),
      options_(options),
      state_(model.start_decoding(options.batch, options.capacity)),
      pool_(pool_on(model.device())),
      work_(pool_.get()) {
  const at::TensorOptions on_device(model.device());
  tokens_b_ = at::zeros({options.batch}, on_device.dtype(at::kLong));
  drawn_ = at::zeros({1}, on_device.dtype(at::kLong));
  uniforms_nb_ = at::zeros({options.max_new_tokens, options.batch}, on_device.dtype(at::kDouble));
}

void Decoder::start(const std::vector<DecodeRequest>& requests) {
  const at::NoGradGuard no_grad;
  const auto rows = static_cast<int64_t>(requests.size());
  expect(rows >= 1 && rows <= options_.batch,
         concat("decoder: expected 1 to ", options_.batch, " requests, got ", rows));
  std::vector<int64_t> lengths(static_cast<size_t>(options_.batch), 1);  // rows without a request too
  for (size_t b = 0; b < requests.size(); ++b) lengths[b] = static_cast<int64_t>(requests[b].prompt.size());
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  expect(longest + options_.max_new_tokens - 1 <= options_.capacity,
         concat("decoder: a prompt of ", longest, " tokens and ", options_.max_new_tokens,
                " new ones exceed the capacity of ", options_.capacity));

  const at::Tensor tokens = at::zeros({options_.batch, longest}, at::kLong);
  const at::Tensor uniforms = at::zeros(uniforms_nb_.sizes(), at::kDouble);
  for (size_t b = 0; b < requests.size(); ++b) {
    std::copy(requests[b].prompt.begin(), requests[b].prompt.end(),
              tokens[static_cast<int64_t>(b)].mutable_data_ptr<int64_t>());
    if (options_.sampling.temperature == 0) continue;
    const Philox random(requests[b].seed);
    double* column = uniforms.mutable_data_ptr<double>() + b;
    for (int64_t n = 0; n < uniforms.size(0); ++n, column += options_.batch)
      *column = random.uniform(static_cast<uint64_t>(n));
  }
  uniforms_nb_.copy_(uniforms);
  drawn_.zero_();
  steps_ = 1;
  untaken_.clear();
  draw(model_.prefill(make_prompts(tokens.to(model_.device()), lengths), state_));
  untaken_.emplace_back(tokens_b_);  // queued before a later step overwrites what was drawn
}

void Decoder::step() {
  const at::NoGradGuard no_grad;
  expect(steps_ >= 1 && steps_ < options_.max_new_tokens,
         concat("decoder: ", options_.max_new_tokens, " tokens have been drawn, as many as were asked for"));
  ++steps_;
  work_.run([&] { draw(model_.step(tokens_b_, state_)); });
  untaken_.emplace_back(tokens_b_);  // queued before a later step overwrites what was drawn
}

std::vector<int64_t> Decoder::tokens() {
  expect(!untaken_.empty(), "decoder: the tokens of every draw have been taken");
  const at::Tensor host = untaken_.front().wait();
  untaken_.pop_front();
  return {host.const_data_ptr<int64_t>(), host.const_data_ptr<int64_t>() + host.numel()};
}

void Decoder::draw(const at::Tensor& logits_bv) {
  const at::Tensor uniforms_b = uniforms_nb_.index_select(0, drawn_).squeeze(0);
  tokens_b_.copy_(sample(logits_bv.narrow(1, 0, options_.vocab_size), options_.sampling, uniforms_b));
  drawn_.add_(1);
}

}  // namespace transxssm
