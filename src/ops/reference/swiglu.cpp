// SwiGLU in ATen, a block of rows at a time so that f32 intermediates of bf16 tensors stay small.
#include "ops/reference/swiglu.h"

#include <algorithm>

#include <ATen/ops/empty.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/silu_backward.h>

#include "ops/accumulate_type.h"

namespace transxssm::ops::reference {
namespace {

// Elements of an intermediate result; backward holds four.
constexpr int64_t kBlockElements = int64_t{1} << 24;

// Calls visit(first row, number of rows) for blocks of rows of `columns` elements each.
template <class Visit>
void for_each_block(int64_t rows, int64_t columns, Visit&& visit) {
  const int64_t step = std::max<int64_t>(1, kBlockElements / std::max<int64_t>(1, columns));
  for (int64_t begin = 0; begin < rows; begin += step) visit(begin, std::min(step, rows - begin));
}

}  // namespace

at::Tensor swiglu_fwd(const at::Tensor& packed) {
  const at::Tensor y = at::empty({packed.size(0), packed.size(1) / 2}, packed.options());
  for_each_block(y.size(0), y.size(1), [&](int64_t begin, int64_t count) {
    const auto halves = packed.narrow(0, begin, count).chunk(2, 1);
    at::Tensor out = y.narrow(0, begin, count);
    at::mul_out(out, at::silu(to_accumulate_type(halves[0])), halves[1]);
  });
  return y;
}

at::Tensor swiglu_bwd(const at::Tensor& dy, const at::Tensor& packed) {
  const at::Tensor d_packed = at::empty(packed.sizes(), packed.options());
  for_each_block(dy.size(0), dy.size(1), [&](int64_t begin, int64_t count) {
    const auto halves = packed.narrow(0, begin, count).chunk(2, 1);
    auto d_halves = d_packed.narrow(0, begin, count).chunk(2, 1);
    const at::Tensor d_rows = to_accumulate_type(dy.narrow(0, begin, count));
    const at::Tensor gate = to_accumulate_type(halves[0]);
    at::mul_out(d_halves[1], at::silu(gate), d_rows);
    at::silu_backward_out(d_halves[0], at::mul(d_rows, halves[1]), gate);
  });
  return d_packed;
}

}  // namespace transxssm::ops::reference
