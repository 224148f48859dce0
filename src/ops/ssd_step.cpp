// The decode step of the SSD scan (ops/ssd.h): the CUDA kernel where there is one, else the reference.
#include "ops/reference/ssd_step.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>

#include "core/check.h"
#include "csrc_cuda/ssd/step_params.h"
#include "ops/check_tensor.h"
#include "ops/cuda_stream.h"
#include "ops/ssd_checks.h"

namespace transxssm::ops {
namespace {

// Null where the kernel takes such a step.
const char* why_no_kernel(const SsdDims& d, at::Device device, at::ScalarType dtype) {
  if (d.path == SsdPath::reference) return "kernels.ssd is reference";
  if (!device.is_cuda()) return "the CPU has no other";
  if (dtype != at::kBFloat16 && dtype != at::kFloat) return "the kernel takes bf16 and f32";
  if (d.head_dim != kernels::kSsdStepWidth || d.state_dim != kernels::kSsdStepWidth)
    return "the kernel takes heads and states 128 wide";
  return nullptr;
}

// What only the kernel asks for: everything is read through bare pointers.
void check_for_kernel(const RopeTable* rope, const at::Tensor& state) {
  expect_contiguous("ssd_step state", state);
  expect_aligned("ssd_step state", state);
  if (!rope) return;
  for (const at::Tensor& table : {rope->cos, rope->sin}) {
    expect_contiguous("ssd_step rope table", table);
    expect_aligned("ssd_step rope table", table);
  }
}

const float* weights(const char* what, const ParameterPtr& parameter) {
  expect_contiguous(what, parameter->weight);
  return parameter->weight.const_data_ptr<float>();
}

// A grid has 2¹⁶ − 1 blocks along y and z.
void check_size(const SsdDims& d, const at::Tensor& packed) {
  constexpr int64_t kMost = 65535;
  expect(packed.size(0) <= kMost && d.num_heads <= kMost,
         concat("ssd_step packed: expected at most ", kMost, " sequences and heads, got ", packed.size(0),
                " and ", d.num_heads));
}

at::Tensor step_by_kernel(const SsdDims& d, const at::Tensor& packed_bw, const ParameterPtr& a_log_h,
                          const ParameterPtr& dt_bias_h, const ParameterPtr& d_skip_h, const RopeTable* rope,
                          const at::Tensor& positions_b, at::Tensor& state_bhpn) {
  const at::NoGradGuard no_grad;
  check_size(d, packed_bw);
  check_for_kernel(rope, state_bhpn);
  const c10::DeviceGuard guard(packed_bw.device());
  const at::Tensor y = at::empty({packed_bw.size(0), d.num_heads * d.head_dim}, packed_bw.options());
  kernels::SsdStepParams p{};
  p.batch = static_cast<int>(packed_bw.size(0));
  p.heads = static_cast<int>(d.num_heads);
  p.groups = static_cast<int>(d.num_groups);
  p.is_bf16 = packed_bw.scalar_type() == at::kBFloat16;
  p.packed = packed_bw.const_data_ptr();
  p.packed_row_stride = packed_bw.stride(0);
  p.a_log = weights("ssd A_log", a_log_h);
  p.dt_bias = weights("ssd dt_bias", dt_bias_h);
  if (d_skip_h) p.d_skip = weights("ssd D", d_skip_h);
  if (rope) {
    p.rope_cos = rope->cos.const_data_ptr<float>();
    p.rope_sin = rope->sin.const_data_ptr<float>();
    p.rope_rows = rope->cos.size(0);
  }
  p.positions = positions_b.const_data_ptr<int64_t>();
  p.positions_stride = positions_b.stride(0);
  p.state = state_bhpn.mutable_data_ptr<float>();
  p.y = y.mutable_data_ptr();
  kernels::ssd_step(p, current_stream(packed_bw));
  return y;
}

}  // namespace

at::Tensor ssd_step(const SsdDims& dims, const at::Tensor& packed_bw, const ParameterPtr& a_log_h,
                    const ParameterPtr& dt_bias_h, const ParameterPtr& d_skip_h, const RopeTable* rope,
                    const at::Tensor& positions_b, at::Tensor& state_bhpn) {
  expect_shape("ssd_step packed", packed_bw, {-1, -1});
  check_packed(dims, packed_bw);
  check_parameters(dims, packed_bw, a_log_h, dt_bias_h, d_skip_h);
  check_rope(dims, packed_bw, rope, /*positions=*/1);
  expect_shape("ssd_step positions", positions_b, {packed_bw.size(0)});
  expect_dtype("ssd_step positions", positions_b, at::kLong);
  expect_device("ssd_step positions", positions_b, packed_bw.device());
  check_state(dims, packed_bw, state_bhpn);
  const bool has_kernel = !why_no_kernel(dims, packed_bw.device(), packed_bw.scalar_type());
  const auto step = has_kernel ? step_by_kernel : reference::ssd_step;
  return step(dims, packed_bw, a_log_h, dt_bias_h, d_skip_h, rope, positions_b, state_bhpn);
}

std::string ssd_step_path_description(const SsdDims& dims, at::Device device, at::ScalarType dtype) {
  const char* reason = why_no_kernel(dims, device, dtype);
  return reason ? concat("LibTorch (", reason, ")") : "one CUDA kernel";
}

}  // namespace transxssm::ops
