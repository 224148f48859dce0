#include "bench/cross_entropy_work.h"

#include <memory>

#include <ATen/ops/empty.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>

#include "bench/input_sets.h"
#include "csrc_cuda/cross_entropy/params.h"
#include "ops/cuda_stream.h"

namespace transxssm::bench {
namespace {

struct Chunk {
  std::vector<at::Tensor> logits;  // by set, rows padded to whole vectors
  at::Tensor labels, losses;
  int64_t rows, vocabulary;

  Chunk(int64_t n, int64_t v, size_t sets) : rows(n), vocabulary(v) {
    const auto f32 = at::TensorOptions(at::kCUDA).dtype(at::kFloat);
    const int64_t stride =
        (v + kernels::kLogitsAlignment - 1) / kernels::kLogitsAlignment * kernels::kLogitsAlignment;
    for (size_t i = 0; i < sets; ++i) logits.push_back(at::randn({n, stride}, f32.dtype(at::kBFloat16)));
    labels = at::randint(v, {n}, f32.dtype(at::kLong));
    losses = at::empty({2, n}, f32);
  }
  void queue(size_t set, bool gradient) const {
    const kernels::CrossEntropyParams params{
        .logits_bf16 = logits[set].mutable_data_ptr(),
        .row_stride = logits[set].stride(0),
        .labels = labels.const_data_ptr<int64_t>(),
        .losses = losses[0].mutable_data_ptr<float>(),
        .objectives = losses[1].mutable_data_ptr<float>(),
        .scale = nullptr,
        .rows = rows,
        .vocabulary = vocabulary,
        .z_loss = 0,
        .gradient = gradient,
    };
    kernels::cross_entropy(params, ops::current_stream(labels));
  }
};

}  // namespace

std::vector<StreamCase> cross_entropy_cases(int64_t rows, int64_t vocabulary) {
  const double bytes = 2.0 * static_cast<double>(rows * vocabulary);
  const size_t sets = input_sets(bytes);
  const auto chunk = std::make_shared<Chunk>(rows, vocabulary, sets);
  return {{"forward", bytes, {sets, [chunk](size_t set) { chunk->queue(set, false); }}},
          {"both", 2 * bytes, {sets, [chunk](size_t set) { chunk->queue(set, true); }}}};
}

}  // namespace transxssm::bench
