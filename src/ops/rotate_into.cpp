// The rotary embedding in one pass over the heads of each token.
#include "ops/rotate_into.h"

#include <algorithm>

#include <ATen/Parallel.h>

#include "core/check.h"

namespace transxssm::ops {
namespace {

// One head: x, out [2 · half]; cos, sin [half].
template <class T>
void rotate_head(T* __restrict out, const T* __restrict x, const T* __restrict cos, const T* __restrict sin,
                 int64_t half, T sign) {
  for (int64_t k = 0; k < half; ++k) {
    const T s = sign * sin[k];
    out[k] = x[k] * cos[k] - x[half + k] * s;
    out[half + k] = x[half + k] * cos[k] + x[k] * s;
  }
}

template <class T>
void rotate_all(const at::Tensor& out, const at::Tensor& x, const RopeTable& table,
                const at::Tensor& positions, bool inverse) {
  const int64_t tokens = x.size(1), heads = x.size(2), half = x.size(3) / 2;
  const T* cos = table.cos.const_data_ptr<T>();
  const T* sin = table.sin.const_data_ptr<T>();
  const T* from = x.const_data_ptr<T>();
  T* to = out.mutable_data_ptr<T>();
  const auto* position = positions.const_data_ptr<int64_t>();
  constexpr int64_t kElementsPerTask = 32768;
  const int64_t grain = std::max<int64_t>(1, kElementsPerTask / (heads * half));
  at::parallel_for(0, x.size(0) * tokens, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / tokens, t = i % tokens;
      const int64_t row = position[b * positions.stride(0) + t * positions.stride(1)] * half;
      for (int64_t h = 0; h < heads; ++h)
        rotate_head<T>(to + b * out.stride(0) + t * out.stride(1) + h * out.stride(2),
                       from + b * x.stride(0) + t * x.stride(1) + h * x.stride(2), cos + row, sin + row, half,
                       inverse ? T(-1) : T(1));
    }
  });
}

bool one_pass(const at::Tensor& out, const at::Tensor& x, const RopeTable& table) {
  const auto dtype = x.scalar_type();
  return x.is_cpu() && (dtype == at::kFloat || dtype == at::kDouble) && table.cos.scalar_type() == dtype &&
         table.cos.is_contiguous() && table.sin.is_contiguous() && x.stride(3) == 1 && out.stride(3) == 1;
}

}  // namespace

void rotate_half_into(const at::Tensor& out_bthn, const at::Tensor& x_bthn, const RopeTable& table,
                      const at::Tensor& positions_bt, bool inverse) {
  if (!one_pass(out_bthn, x_bthn, table)) {
    out_bthn.copy_(rotate_half(x_bthn, table, positions_bt, inverse));
    return;
  }
  expect(out_bthn.sizes() == x_bthn.sizes() && x_bthn.size(3) == 2 * table.cos.size(1),
         concat("rotate_half_into: expected [B, T, H, ", 2 * table.cos.size(1), "] twice, got ",
                x_bthn.sizes(), " and ", out_bthn.sizes()));
  if (x_bthn.scalar_type() == at::kDouble)
    rotate_all<double>(out_bthn, x_bthn, table, positions_bt, inverse);
  else
    rotate_all<float>(out_bthn, x_bthn, table, positions_bt, inverse);
}

}  // namespace transxssm::ops
