// Linear and embedding: literal formulas and arguments, shared by the CPU and CUDA tests.
#pragma once

#include <ATen/ops/one_hot.h>
#include <ATen/ops/tensor.h>

#include "ops/embedding.h"
#include "ops/linear.h"
#include "support/op_case.h"

namespace transxssm {

inline OpCase linear_case(at::IntArrayRef rows, int64_t in, int64_t out) {
  std::vector<int64_t> shape = rows.vec();
  shape.push_back(in);
  return {
      concat("linear ", rows, " x ", in, " -> ", out),
      [](const Tensors& x, const std::vector<ParameterPtr>& w) { return Tensors{ops::linear(x[0], w[0])}; },
      [](const Tensors& x, const Tensors& w) { return Tensors{x[0].matmul(w[0].t())}; },
      {f64_tensor(shape, 1)},
      {f64_parameter("weight", {out, in}, 2)}};
}

// Tokens of a small vocabulary, so that rows repeat and some are never used.
inline at::Tensor some_tokens(at::IntArrayRef shape, int64_t vocabulary, uint64_t seed) {
  return f64_tensor(shape, seed, 100).abs().to(at::kLong).remainder(vocabulary);
}

inline OpCase embedding_case(int64_t batch, int64_t tokens, int64_t vocabulary, int64_t width) {
  return {concat("embedding ", batch, "x", tokens, " of ", vocabulary),
          [](const Tensors& x, const std::vector<ParameterPtr>& w) {
            return Tensors{ops::embedding(x[0], w[0])};
          },
          [](const Tensors& x, const Tensors& w) {
            return Tensors{at::one_hot(x[0], w[0].size(0)).to(w[0].scalar_type()).matmul(w[0])};
          },
          {some_tokens({batch, tokens}, vocabulary, 5)},
          {f64_parameter("weight", {vocabulary, width}, 6)}};
}

}  // namespace transxssm
