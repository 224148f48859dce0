#include "ops/causal_conv1d_kernel.h"

#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <torch/csrc/autograd/custom_function.h>

#include "csrc_cuda/causal_conv1d/params.h"
#include "ops/cuda_stream.h"
#include "ops/kernel_arguments.h"
#include "ops/parameter_handle.h"

namespace transxssm::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

kernels::ConvShape shape_of(const at::Tensor& x_btw, const at::Tensor& w_ck) {
  return {.batch = x_btw.size(0),
          .tokens = x_btw.size(1),
          .channels = w_ck.size(0),
          .columns = x_btw.size(2),
          .taps = static_cast<int>(w_ck.size(1))};
}

at::Tensor forward_kernel(const at::Tensor& x_btw, const at::Tensor& w_ck, const at::Tensor& bias_c,
                          const at::Tensor& ids_bt) {
  const c10::DeviceGuard guard(x_btw.device());
  const at::Tensor y = at::empty(x_btw.sizes(), x_btw.options().requires_grad(false));
  kernels::causal_conv1d_forward({.shape = shape_of(x_btw, w_ck),
                                  .x = x_btw.const_data_ptr(),
                                  .w = w_ck.const_data_ptr<float>(),
                                  .bias = bias_c.const_data_ptr<float>(),
                                  .document = ids_bt.const_data_ptr<int32_t>(),
                                  .y = y.mutable_data_ptr(),
                                  .x_stride = x_btw.stride(1),
                                  .x_batch_stride = x_btw.stride(0)},
                                 current_stream(x_btw));
  return y;
}

at::Tensor backward_kernel(const at::Tensor& dy_btw, const at::Tensor& x_btw, const ParameterPtr& w,
                           const ParameterPtr& bias, const at::Tensor& ids_bt) {
  const c10::DeviceGuard guard(x_btw.device());
  const at::Tensor dy = dy_btw.contiguous(), dx = at::empty(x_btw.sizes(), dy.options());
  const kernels::ConvShape shape = shape_of(x_btw, w->weight);
  const at::Tensor partial_sums =
      at::empty({shape.parts(), shape.channels * (shape.taps + 1)}, w->weight.options().requires_grad(false));
  kernels::causal_conv1d_backward({.shape = shape,
                                   .dy = dy.const_data_ptr(),
                                   .x = x_btw.const_data_ptr(),
                                   .w = w->weight.const_data_ptr<float>(),
                                   .bias = bias->weight.const_data_ptr<float>(),
                                   .document = ids_bt.const_data_ptr<int32_t>(),
                                   .dx = dx.mutable_data_ptr(),
                                   .partial_sums = partial_sums.mutable_data_ptr<float>(),
                                   .dw = gradient_pointer(w),
                                   .dbias = gradient_pointer(bias),
                                   .x_stride = x_btw.stride(1),
                                   .x_batch_stride = x_btw.stride(0),
                                   .dx_stride = dx.stride(1),
                                   .dx_batch_stride = dx.stride(0)},
                                  current_stream(x_btw));
  return dx;
}

struct CausalConv1dKernel : torch::autograd::Function<CausalConv1dKernel> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x_btw,
                            const std::optional<at::Tensor>& /*weight*/,
                            const std::optional<at::Tensor>& /*bias*/, const ParameterPtr& w,
                            const ParameterPtr& bias, const at::Tensor& ids_bt) {
    ctx->save_for_backward({x_btw, ids_bt});
    ctx->saved_data["w"] = to_handle(w);
    ctx->saved_data["bias"] = to_handle(bias);
    return forward_kernel(x_btw, w->weight, bias->weight, ids_bt);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const ParameterPtr w = from_handle(ctx->saved_data["w"]), bias = from_handle(ctx->saved_data["bias"]);
    const variable_list saved = ctx->get_saved_variables();
    return {backward_kernel(grads[0], saved[0], w, bias, saved[1]), {}, {}, {}, {}, {}};
  }
};

}  // namespace

bool has_causal_conv1d_kernel(const at::Tensor& x, const ParameterPtr& w) {
  const int64_t channels = w->weight.size(0), taps = w->weight.size(1);
  return x.is_cuda() && x.scalar_type() == at::kBFloat16 && taps >= 2 && taps <= kernels::kMaxConvTaps &&
         channels % 4 == 0 && x.size(2) % 4 == 0 && x.stride(2) == 1 && x.stride(1) % 4 == 0 &&
         x.stride(0) % 4 == 0 && reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 8 == 0;
}

at::Tensor causal_conv1d_kernel(const at::Tensor& x_btw, const ParameterPtr& w, const ParameterPtr& bias,
                                const Documents& documents) {
  return CausalConv1dKernel::apply(x_btw, graph_leaf(w), graph_leaf(bias), w, bias,
                                   documents.ids.contiguous());
}

}  // namespace transxssm::ops
