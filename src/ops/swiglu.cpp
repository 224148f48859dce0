// SwiGLU as an autograd Function over rows: loops on the CPU, ATen elsewhere.
#include "ops/swiglu.h"

#include <torch/csrc/autograd/custom_function.h>

#include "core/check.h"
#include "ops/reference/swiglu.h"
#include "ops/swiglu_cpu.h"

namespace transxssm::ops {
namespace {

at::Tensor as_rows(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

bool has_loops(const at::Tensor& packed) {
  return packed.is_cpu() && (packed.scalar_type() == at::kFloat || packed.scalar_type() == at::kDouble);
}

// Rows for the loops, which step along them element by element.
at::Tensor as_loop_rows(const at::Tensor& x) {
  const at::Tensor rows = as_rows(x);
  return rows.stride(1) == 1 ? rows : rows.contiguous();
}

struct Swiglu : torch::autograd::Function<Swiglu> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& packed) {
    ctx->save_for_backward({packed});
    std::vector<int64_t> shape = packed.sizes().vec();
    shape.back() /= 2;
    const at::Tensor y =
        has_loops(packed) ? swiglu_cpu_fwd(as_loop_rows(packed)) : reference::swiglu_fwd(as_rows(packed));
    return y.view(shape);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const at::Tensor packed = ctx->get_saved_variables()[0];
    const at::Tensor d_packed = has_loops(packed)
                                    ? swiglu_cpu_bwd(as_loop_rows(grads[0]), as_loop_rows(packed))
                                    : reference::swiglu_bwd(as_rows(grads[0]), as_rows(packed));
    return {d_packed.view(packed.sizes())};
  }
};

}  // namespace

at::Tensor swiglu(const at::Tensor& packed) {
  expect(packed.dim() > 0 && packed.size(-1) > 0 && packed.size(-1) % 2 == 0,
         concat("swiglu: expected [..., 2F], got ", packed.sizes()));
  return Swiglu::apply(packed);
}

}  // namespace transxssm::ops
