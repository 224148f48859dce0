#include "ops/grad_norm.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>

#include "core/check.h"
#include "csrc_cuda/grad_norm/params.h"
#include "ops/cuda_stream.h"

namespace transxssm::ops {
namespace {

void check(const std::vector<at::Tensor>& grads) {
  expect(!grads.empty(), "grad_norm: no buffers");
  for (const at::Tensor& grad : grads) {
    const bool dtype_ok =
        grad.scalar_type() == at::kFloat || (grad.scalar_type() == at::kDouble && grad.is_cpu());
    expect(grad.dim() == 1 && grad.is_contiguous() && dtype_ok && grad.device() == grads.front().device(),
           concat("grad_norm: expected contiguous one-dimensional f32 (f64 too on a CPU) on ",
                  grads.front().device(), ", got ", grad.sizes(), " ", grad.scalar_type(), " on ",
                  grad.device()));
  }
}

// In T with independent running sums (what lets the compiler vectorise), f64 across them.
template <class T>
double sum_squares_of_block(const T* x, int64_t n) {
  constexpr int64_t kLanes = 16;
  std::array<T, kLanes> lanes{};
  const int64_t whole = n / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += x[i + lane] * x[i + lane];
  for (int64_t i = whole; i < n; ++i) lanes[i - whole] += x[i] * x[i];
  double sum = 0;
  for (const T lane : lanes) sum += static_cast<double>(lane);
  return sum;
}

// Blocks of a fixed size, added in order: the number of threads changes nothing.
template <class T>
double sum_squares_cpu(const at::Tensor& grad) {
  constexpr int64_t kBlock = 1 << 14;
  const int64_t n = grad.numel();
  const T* x = grad.const_data_ptr<T>();
  std::vector<double> of_block(static_cast<size_t>((n + kBlock - 1) / kBlock));
  at::parallel_for(0, static_cast<int64_t>(of_block.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block)
      of_block[static_cast<size_t>(block)] =
          sum_squares_of_block(x + block * kBlock, std::min(kBlock, n - block * kBlock));
  });
  double sum = 0;
  for (const double s : of_block) sum += s;
  return sum;
}

at::Tensor grad_norm_cpu(const std::vector<at::Tensor>& grads) {
  double sum = 0;
  for (const at::Tensor& grad : grads)
    sum += grad.scalar_type() == at::kDouble ? sum_squares_cpu<double>(grad) : sum_squares_cpu<float>(grad);
  const at::Tensor norm = at::empty({}, grads.front().options().dtype(at::kFloat));
  *norm.mutable_data_ptr<float>() = static_cast<float>(std::sqrt(sum));
  return norm;
}

at::Tensor grad_norm_cuda(const std::vector<at::Tensor>& grads) {
  const at::Tensor& first = grads.front();
  const c10::DeviceGuard on_device(first.device());
  CUstream_st* stream = current_stream(first);
  const auto count = static_cast<int64_t>(grads.size()) * kernels::kPartialSums;
  const at::Tensor partial_sums = at::empty({count}, first.options().dtype(at::kDouble));
  const at::Tensor norm = at::empty({}, first.options());
  double* partial = partial_sums.mutable_data_ptr<double>();
  for (size_t i = 0; i < grads.size(); ++i)
    kernels::sum_squares({.x = grads[i].const_data_ptr<float>(),
                          .n = grads[i].numel(),
                          .partial_sums = partial + i * kernels::kPartialSums},
                         stream);
  kernels::norm_of_partial_sums(
      {.partial_sums = partial, .count = count, .norm = norm.mutable_data_ptr<float>()}, stream);
  return norm;
}

}  // namespace

at::Tensor grad_norm(const std::vector<at::Tensor>& grads) {
  check(grads);
  return grads.front().is_cuda() ? grad_norm_cuda(grads) : grad_norm_cpu(grads);
}

}  // namespace transxssm::ops
