// SwiGLU on the CPU: with s = sigmoid(gate), silu(gate) = gate s and silu'(gate) = s + gate s (1 − s).
#include "ops/swiglu_cpu.h"

#include <algorithm>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sigmoid.h>

namespace transxssm::ops {
namespace {

template <class Visit>
void for_each_row(int64_t rows, int64_t columns, Visit&& visit) {
  constexpr int64_t kElementsPerTask = 32768;
  const int64_t grain = std::max<int64_t>(1, kElementsPerTask / std::max<int64_t>(1, columns));
  at::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) visit(row);
  });
}

// y holds s and becomes the result.
template <class T>
void fwd_row(T* __restrict y, const T* __restrict gate, const T* __restrict up, int64_t columns) {
  for (int64_t i = 0; i < columns; ++i) y[i] *= gate[i] * up[i];
}

template <class T>
void bwd_row(T* __restrict d_gate, T* __restrict d_up, const T* __restrict dy, const T* __restrict s,
             const T* __restrict gate, const T* __restrict up, int64_t columns) {
  for (int64_t i = 0; i < columns; ++i) {
    const T silu = gate[i] * s[i];
    d_up[i] = dy[i] * silu;
    d_gate[i] = dy[i] * up[i] * (s[i] + silu * (1 - s[i]));
  }
}

template <class T>
void fwd(const at::Tensor& y, const at::Tensor& packed) {
  const int64_t columns = y.size(1), stride = packed.stride(0);
  T* out = y.mutable_data_ptr<T>();
  const T* in = packed.const_data_ptr<T>();
  for_each_row(y.size(0), columns, [=](int64_t row) {
    fwd_row(out + row * columns, in + row * stride, in + row * stride + columns, columns);
  });
}

template <class T>
void bwd(const at::Tensor& d_packed, const at::Tensor& dy, const at::Tensor& sigmoid,
         const at::Tensor& packed) {
  const int64_t columns = dy.size(1), stride = packed.stride(0), dy_stride = dy.stride(0);
  T* out = d_packed.mutable_data_ptr<T>();
  const T* d_rows = dy.const_data_ptr<T>();
  const T* s = sigmoid.const_data_ptr<T>();
  const T* in = packed.const_data_ptr<T>();
  for_each_row(dy.size(0), columns, [=](int64_t row) {
    T* d_gate = out + 2 * row * columns;
    bwd_row(d_gate, d_gate + columns, d_rows + row * dy_stride, s + row * columns, in + row * stride,
            in + row * stride + columns, columns);
  });
}

at::Tensor sigmoid_of_gate(const at::Tensor& packed) {
  at::Tensor s = at::empty({packed.size(0), packed.size(1) / 2}, packed.options());
  return at::sigmoid_out(s, packed.narrow(1, 0, s.size(1)));
}

}  // namespace

at::Tensor swiglu_cpu_fwd(const at::Tensor& packed) {
  const at::Tensor y = sigmoid_of_gate(packed);
  packed.scalar_type() == at::kDouble ? fwd<double>(y, packed) : fwd<float>(y, packed);
  return y;
}

at::Tensor swiglu_cpu_bwd(const at::Tensor& dy, const at::Tensor& packed) {
  const at::Tensor d_packed = at::empty(packed.sizes(), packed.options());
  const at::Tensor s = sigmoid_of_gate(packed);
  packed.scalar_type() == at::kDouble ? bwd<double>(d_packed, dy, s, packed)
                                      : bwd<float>(d_packed, dy, s, packed);
  return d_packed;
}

}  // namespace transxssm::ops
