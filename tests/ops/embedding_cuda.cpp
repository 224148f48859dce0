// The embedding's kernels: rows of equal tokens are summed in f32, in the order of their places.
#include <ATen/ops/zeros.h>

#include "csrc_cuda/embedding/params.h"
#include "linear_cases.h"
#include "ops/cuda_stream.h"
#include "ops/embedding.h"
#include "support/cuda_graph.h"
#include "support/guarded.h"

using namespace transxssm;

namespace {

ParameterPtr bf16_table(int64_t vocabulary, int64_t width) {
  return parameter_in(f64_parameter("table", {vocabulary, width}, 6), at::kBFloat16, at::kCUDA);
}

// Gradient of the table by the kernels, and in f64 on the CPU.
void require_gradient(const at::Tensor& tokens, int64_t vocabulary, int64_t width) {
  const ParameterPtr w = bf16_table(vocabulary, width);
  const at::Tensor dy = f64_tensor({tokens.numel(), width}, 7).to(at::kBFloat16);
  const at::Tensor there = tokens.to(at::kCUDA);
  const at::Tensor y = ops::embedding(there, w);
  REQUIRE(same_bits(y, w->weight.index_select(0, there)));
  w->grad.fill_(0.25);
  y.backward(dy.to(at::kCUDA));
  at::Tensor exact = at::full({vocabulary, width}, 0.25, at::TensorOptions(at::kDouble));
  exact.index_add_(0, tokens, as_f64(dy));
  // Sums of n terms in f32, of about √n each: n roundings at most.
  REQUIRE(rms_error(w->grad, exact) <= 1e-5);
  const at::Tensor first = w->grad.clone();
  w->grad.fill_(0.25);
  ops::embedding(there, w).backward(dy.to(at::kCUDA));
  REQUIRE(same_bits(w->grad, first));
}

}  // namespace

TEST_CASE("embedding kernels: rows and gradients for few, many and awkwardly many tokens", "[ops][cuda]") {
  // A chunk has 32 places, a block 1024 columns.
  const int64_t count = GENERATE(1, 31, 32, 33, 1009);
  const int64_t width = GENERATE(8, 136, 1032);
  require_gradient(some_tokens({count}, 97, 5), 97, width);
}

TEST_CASE("embedding kernels: one token everywhere, runs that end at borders, a vocabulary of one",
          "[ops][cuda]") {
  const auto i64 = at::TensorOptions(at::kLong);
  require_gradient(at::zeros({3 * 32 + 5}, i64), 1, 16);
  require_gradient(at::full({4 * 32}, 40000, i64), 40001, 16);
  const at::Tensor runs =
      at::zeros({6 * 32}, i64);  // 32 of token 1, then 64 of token 2, and what is left of 0
  runs.narrow(0, 0, 32).fill_(1);
  runs.narrow(0, 32, 64).fill_(2);
  require_gradient(runs, 3, 16);
}

TEST_CASE("embedding kernels: a captured graph follows new tokens", "[ops][cuda]") {
  const ParameterPtr w = bf16_table(211, 64);
  at::Tensor tokens = some_tokens({2, 300}, 211, 5).to(at::kCUDA);
  const at::Tensor dy = f64_tensor({2, 300, 64}, 7).to(at::kBFloat16).to(at::kCUDA);
  const auto work = [&] { ops::embedding(tokens, w).backward(dy); };
  work();
  CapturedGraph graph(work);
  tokens.copy_(some_tokens({2, 300}, 211, 9));
  w->grad.zero_();
  graph.replay();
  const at::Tensor replayed = w->grad.clone();
  w->grad.zero_();
  work();
  REQUIRE(same_bits(replayed, w->grad));
}

TEST_CASE("embedding kernels: write rows of the gradient and the workspace and nothing else", "[ops][cuda]") {
  const int64_t count = 77, width = 24, vocabulary = 13;
  Guarded guarded;
  const auto bf16 = at::TensorOptions(at::kCUDA).dtype(at::kBFloat16);
  const at::Tensor tokens = some_tokens({count}, vocabulary, 5).to(at::kCUDA);
  const at::Tensor dy = f64_tensor({count, width}, 7).to(bf16), out = guarded.make({count, width}, bf16);
  const at::Tensor grad = guarded.make({vocabulary, width}, bf16.dtype(at::kFloat));
  const auto bytes = static_cast<int64_t>(kernels::embedding_workspace_bytes(count, width, vocabulary));
  const at::Tensor workspace = guarded.make({(bytes + 3) / 4}, bf16.dtype(at::kFloat));
  kernels::embedding_forward(
      {dy.const_data_ptr(), tokens.const_data_ptr<int64_t>(), out.mutable_data_ptr(), count, width},
      ops::current_stream(dy));
  kernels::embedding_backward(
      {dy.const_data_ptr(), tokens.const_data_ptr<int64_t>(), grad.mutable_data_ptr<float>(),
       workspace.mutable_data_ptr(), count, width, vocabulary},
      ops::current_stream(dy));
  REQUIRE(guarded.intact());
}
