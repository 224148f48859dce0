// The kernels of the norms: bf16 against fp64 on the same numbers.
#include <ATen/ops/full_like.h>
#include <torch/csrc/autograd/autograd.h>

#include "csrc_cuda/rms_norm/gated_params.h"
#include "norm_cases.h"
#include "ops/cuda_stream.h"
#include "ops/rms_norm.h"
#include "support/cuda_graph.h"
#include "support/guarded.h"

using namespace transxssm;

namespace {

at::Tensor on_gpu(at::IntArrayRef shape, uint64_t seed, at::ScalarType dtype = at::kBFloat16) {
  return f64_tensor(shape, seed).to(dtype).to(at::kCUDA);
}

}  // namespace

TEST_CASE("norm kernels: values and gradients are close to fp64 and the same in every run", "[ops][cuda]") {
  // Around the widths at which the threads of a row change, and more rows than blocks.
  const auto [rows, width] = GENERATE(table<int64_t, int64_t>({{1, 8},
                                                               {401, 128},
                                                               {7, 136},
                                                               {33, 520},
                                                               {401, 1024},
                                                               {1, 1024},
                                                               {203, 1032},
                                                               {67, 2048},
                                                               {9, 3000},
                                                               {70, 4096},
                                                               {5, 8192}}));
  require_kernel(rms_norm_case(rows, width));
  require_kernel(residual_case(rows, width, true));
  require_kernel(residual_case(rows, width, false));
  require_kernel(gated_case(rows, width));
}

TEST_CASE("norm kernels: write their outputs and nothing else", "[ops][cuda]") {
  const int64_t rows = 5, width = GENERATE(8, 136, 1000, 2040, 4096, 8192);
  Guarded guarded;
  const auto bf16 = at::TensorOptions(at::kCUDA).dtype(at::kBFloat16), f32 = bf16.dtype(at::kFloat);
  const auto out = [&] { return guarded.make({rows, width}, bf16); };
  const at::Tensor x = on_gpu({rows, width}, 1), branch = on_gpu({rows, width}, 2),
                   dy = on_gpu({rows, width}, 3);
  const at::Tensor r = on_gpu({width}, 4, at::kFloat), w = on_gpu({width}, 5, at::kFloat);
  const at::Tensor sum = out(), y = out(), d_normed = out(), y_again = out(),
                   rstd = guarded.make({rows}, f32);
  const at::Tensor dw = guarded.make({width}, f32), dr = guarded.make({width}, f32);
  const at::Tensor partial = guarded.make({2, kernels::norm_parts(rows, width), width}, f32);
  kernels::rms_norm_forward({x.const_data_ptr(), branch.const_data_ptr(), r.const_data_ptr<float>(),
                             w.const_data_ptr<float>(), sum.mutable_data_ptr(), y.mutable_data_ptr(),
                             rstd.mutable_data_ptr<float>(), rows, static_cast<int>(width), 1e-5f},
                            ops::current_stream(x));
  kernels::rms_norm_backward(
      {dy.const_data_ptr(), x.const_data_ptr(), sum.const_data_ptr(), r.const_data_ptr<float>(),
       w.const_data_ptr<float>(), rstd.const_data_ptr<float>(), d_normed.mutable_data_ptr(),
       y_again.mutable_data_ptr(), partial.mutable_data_ptr<float>(), dw.mutable_data_ptr<float>(),
       dr.mutable_data_ptr<float>(), rows, static_cast<int>(width)},
      ops::current_stream(x));
  REQUIRE(guarded.intact());
  for (const at::Tensor& written : {sum, y, d_normed, rstd, partial})
    REQUIRE(written.ne(-12288).all().item<bool>());
  REQUIRE(same_bits(y_again, y));
}

TEST_CASE("gated norm kernels: read and write columns of wider rows, and nothing else", "[ops][cuda]") {
  const int64_t rows = 5, width = GENERATE(8, 136, 1000, 2040, 4096);
  Guarded guarded;
  const auto bf16 = at::TensorOptions(at::kCUDA).dtype(at::kBFloat16), f32 = bf16.dtype(at::kFloat);
  const at::Tensor y = on_gpu({rows, width}, 1), dy_out = on_gpu({rows, width}, 3);
  const at::Tensor packed = on_gpu({rows, width + 24}, 2), z = packed.narrow(1, 16, width);
  const at::Tensor w = on_gpu({width}, 5, at::kFloat), d_packed = at::full_like(packed, 3.0);
  const at::Tensor out = guarded.make({rows, width}, bf16), dy = guarded.make({rows, width}, bf16);
  const at::Tensor rstd = guarded.make({rows}, f32), dw = guarded.make({width}, f32);
  const at::Tensor partial = guarded.make({kernels::gated_norm_parts(rows, width), width}, f32);
  kernels::gated_rms_norm_forward(
      {y.const_data_ptr(), z.const_data_ptr(), w.const_data_ptr<float>(), out.mutable_data_ptr(),
       rstd.mutable_data_ptr<float>(), rows, width + 24, static_cast<int>(width), 1e-5f},
      ops::current_stream(y));
  kernels::gated_rms_norm_backward(
      {dy_out.const_data_ptr(), y.const_data_ptr(), z.const_data_ptr(), w.const_data_ptr<float>(),
       rstd.const_data_ptr<float>(), dy.mutable_data_ptr(), d_packed.narrow(1, 16, width).mutable_data_ptr(),
       partial.mutable_data_ptr<float>(), dw.mutable_data_ptr<float>(), rows, width + 24, width + 24,
       static_cast<int>(width)},
      ops::current_stream(y));
  REQUIRE(guarded.intact());
  REQUIRE(d_packed.narrow(1, 0, 16).eq(3).all().item<bool>());
  REQUIRE(d_packed.narrow(1, 16 + width, 8).eq(3).all().item<bool>());
  REQUIRE(d_packed.narrow(1, 16, width).ne(3).any().item<bool>());
}

TEST_CASE("norm kernels: normalise the stored sum, and take views and gradients of any stride",
          "[ops][cuda]") {
  const ParameterPtr w = parameter_in(f64_parameter("w", {128}, 1), at::kBFloat16, at::kCUDA);
  const ParameterPtr r = parameter_in(f64_parameter("r", {128}, 2), at::kBFloat16, at::kCUDA);
  const at::Tensor x = on_gpu({3, 5, 256}, 3).narrow(-1, 64, 128),
                   branch = on_gpu({3, 128, 5}, 4).transpose(1, 2);
  const auto [sum, u] = ops::residual_rms_norm({{x, r}, branch}, w, kNormEps, {});
  REQUIRE(same_bits(u, ops::rms_norm(sum.x, w, kNormEps)));
  REQUIRE(same_bits(sum.x, (x.to(at::kFloat) * r->weight + branch.to(at::kFloat)).to(at::kBFloat16)));
  at::Tensor leaf = x.detach().clone().set_requires_grad(true);
  ops::rms_norm(leaf, w, kNormEps).sum().backward();  // an expanded gradient
  REQUIRE(leaf.grad().isfinite().all().item<bool>());
}

TEST_CASE("norm kernels: a captured graph gives the bits of eager runs", "[ops][cuda]") {
  const ParameterPtr w = parameter_in(f64_parameter("w", {1024}, 1), at::kBFloat16, at::kCUDA);
  const ParameterPtr r = parameter_in(f64_parameter("r", {1024}, 2), at::kBFloat16, at::kCUDA);
  const at::Tensor x = on_gpu({777, 1024}, 3).set_requires_grad(true), branch = on_gpu({777, 1024}, 4);
  const at::Tensor dy = on_gpu({777, 1024}, 5), d_sum = on_gpu({777, 1024}, 6);
  at::Tensor dx;
  const auto work = [&] {
    const auto [sum, u] = ops::residual_rms_norm({{x, r}, branch}, w, kNormEps, r);
    dx = torch::autograd::grad({sum.x, u}, {x}, {d_sum, dy})[0];
  };
  work();
  const at::Tensor eager = dx.clone(), dw = w->grad.clone(), dr = r->grad.clone();
  CapturedGraph graph(work);
  for (const ParameterPtr& p : {w, r}) p->grad.zero_();
  graph.replay();
  REQUIRE(same_bits(dx, eager));
  REQUIRE(same_bits(w->grad, dw));
  REQUIRE(same_bits(r->grad, dr));
}
