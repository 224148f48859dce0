#include "ops/swiglu_rows.h"

#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>

#include "csrc_cuda/swiglu/params.h"
#include "ops/cuda_stream.h"
#include "ops/reference/swiglu.h"
#include "ops/swiglu_cpu.h"

namespace transxssm::ops {
namespace {

enum class Path { kernel, loops, reference };

Path path_for(const at::Tensor& packed) {
  const auto dtype = packed.scalar_type();
  if (packed.is_cuda() && dtype == at::kBFloat16 && packed.size(1) % 16 == 0) return Path::kernel;
  if (packed.is_cpu() && (dtype == at::kFloat || dtype == at::kDouble)) return Path::loops;
  return Path::reference;
}

// The loops step along rows element by element.
at::Tensor as_loop_rows(const at::Tensor& rows) { return rows.stride(1) == 1 ? rows : rows.contiguous(); }

at::Tensor kernel_fwd(const at::Tensor& packed) {
  const c10::DeviceGuard guard(packed.device());
  const at::Tensor rows = packed.contiguous(),
                   h = at::empty({rows.size(0), rows.size(1) / 2}, rows.options());
  kernels::swiglu_forward(
      {.packed = rows.const_data_ptr(), .h = h.mutable_data_ptr(), .rows = h.size(0), .f = h.size(1)},
      current_stream(packed));
  return h;
}

SwigluGradient kernel_bwd(const at::Tensor& dh, const at::Tensor& packed, bool rebuild) {
  const c10::DeviceGuard guard(packed.device());
  const at::Tensor rows = packed.contiguous(), dh_rows = dh.contiguous();
  SwigluGradient out;
  out.d_packed = at::empty(rows.sizes(), rows.options());
  if (rebuild) out.h = at::empty(dh.sizes(), rows.options());
  kernels::swiglu_backward({.dh = dh_rows.const_data_ptr(),
                            .packed = rows.const_data_ptr(),
                            .d_packed = out.d_packed.mutable_data_ptr(),
                            .h = rebuild ? out.h.mutable_data_ptr() : nullptr,
                            .rows = dh.size(0),
                            .f = dh.size(1)},
                           current_stream(packed));
  return out;
}

}  // namespace

at::Tensor swiglu_rows_fwd(const at::Tensor& packed) {
  switch (path_for(packed)) {
    case Path::kernel:
      return kernel_fwd(packed);
    case Path::loops:
      return swiglu_cpu_fwd(as_loop_rows(packed));
    default:
      return reference::swiglu_fwd(packed);
  }
}

SwigluGradient swiglu_rows_bwd(const at::Tensor& dh, const at::Tensor& packed, bool rebuild) {
  const Path path = path_for(packed);
  if (path == Path::kernel) return kernel_bwd(dh, packed, rebuild);
  const at::Tensor d_packed = path == Path::loops ? swiglu_cpu_bwd(as_loop_rows(dh), as_loop_rows(packed))
                                                  : reference::swiglu_bwd(dh, packed);
  return {d_packed, rebuild ? swiglu_rows_fwd(packed) : at::Tensor()};
}

}  // namespace transxssm::ops
