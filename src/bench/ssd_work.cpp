#include "bench/ssd_work.h"

#include <cmath>
#include <memory>
#include <optional>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>

#include "bench/input_sets.h"
#include "bench/random_documents.h"
#include "model/packed_spec.h"
#include "model/rope.h"
#include "ops/ssd.h"

namespace transxssm::bench {
namespace {

at::TensorOptions bf16() { return at::TensorOptions(at::kCUDA).dtype(at::kBFloat16); }
at::TensorOptions f32() { return at::TensorOptions(at::kCUDA).dtype(at::kFloat); }

double unit_bytes(const ScanShape& s) {
  return 2.0 * static_cast<double>(s.batch * s.tokens * s.heads * kWidth);
}

ops::SsdDims dims_of(int64_t heads, int64_t groups) {
  return {
      .num_heads = heads, .head_dim = kWidth, .state_dim = kWidth, .num_groups = groups, .chunk_size = 128};
}

// Columns as the model lays them out.
int64_t packed_columns(const ops::SsdDims& dims) {
  return (ops::ssd_packed_columns(dims) + kPackedRowAlignment - 1) / kPackedRowAlignment *
         kPackedRowAlignment;
}

ParameterPtr parameter(const char* name, const at::Tensor& weight_h) {
  const at::Tensor weight = weight_h.to(f32());
  return c10::make_intrusive<Parameter>(name, weight.detach().set_requires_grad(true),
                                        at::zeros_like(weight));
}

// A and Δ over the ranges of the model's initial values.
struct Decay {
  explicit Decay(int64_t heads) {
    const auto f64 = at::TensorOptions(at::kDouble);
    a_log = parameter("A_log", at::linspace(1, 16, heads, f64).log());
    const at::Tensor dt = at::linspace(std::log(1e-3), std::log(1e-1), heads, f64).exp();
    dt_bias = parameter("dt_bias", dt.expm1().log());
  }
  ParameterPtr a_log, dt_bias;
};

struct ScanInputs {
  ops::SsdDims dims;
  Decay decay;
  ParameterPtr d_skip;
  std::optional<ops::RopeTable> rope;
  ops::Documents documents;
  std::vector<at::Tensor> packed_btw, dy_btw;

  explicit ScanInputs(const ScanShape& s)
      : dims(dims_of(s.heads, s.groups)),
        decay(s.heads),
        d_skip(s.skip ? parameter("D", at::ones({s.heads})) : nullptr),
        documents(ops::make_documents(
            at::tensor(document_offsets(s.batch, s.tokens, s.documents), at::TensorOptions(at::kInt))
                .to(at::kCUDA),
            s.batch, s.tokens)) {
    if (s.rope) rope = make_rope_table({}, kWidth, s.tokens, at::kCUDA);
    for (size_t set = 0; set < input_sets(3 * unit_bytes(s)); ++set) {
      packed_btw.push_back(
          at::randn({s.batch, s.tokens, packed_columns(dims)}, bf16()).set_requires_grad(true));
      dy_btw.push_back(at::randn({s.batch, s.tokens, s.heads * kWidth}, bf16()));
    }
  }

  at::Tensor scan(size_t set) const {
    return ops::ssd(dims, packed_btw[set], decay.a_log, decay.dt_bias, d_skip, rope ? &*rope : nullptr,
                    documents)
        .y_btw;
  }
};

struct StepInputs {
  ops::SsdDims dims;
  Decay decay;
  ops::RopeTable rope;
  at::Tensor positions_b;
  std::vector<at::Tensor> packed_bw, state_bhpn;

  StepInputs(int64_t batch, int64_t heads)
      : dims(dims_of(heads, heads)),
        decay(heads),
        rope(make_rope_table({}, kWidth, 4096, at::kCUDA)),
        positions_b(at::linspace(0, 4095, batch, f32()).to(at::kLong)) {
    for (size_t set = 0; set < input_sets(ssd_step_bytes(batch, heads) / 2); ++set) {
      packed_bw.push_back(at::randn({batch, packed_columns(dims)}, bf16()));
      state_bhpn.push_back(at::randn({batch, heads, kWidth, kWidth}, f32()));
    }
  }
};

}  // namespace

Workload ssd_work(const ScanShape& shape, Pass pass) {
  const auto inputs = std::make_shared<ScanInputs>(shape);
  const size_t sets = inputs->packed_btw.size();
  if (pass == Pass::forward)
    return {sets, [inputs](size_t set) {
              const at::NoGradGuard no_grad;
              inputs->scan(set);
            }};
  return {sets, [inputs](size_t set) {
            torch::autograd::grad({inputs->scan(set)}, {inputs->packed_btw[set]}, {inputs->dy_btw[set]});
          }};
}

Workload ssd_step_work(int64_t batch, int64_t heads) {
  const auto in = std::make_shared<StepInputs>(batch, heads);
  return {in->packed_bw.size(), [in](size_t set) {
            const at::NoGradGuard no_grad;
            ops::ssd_step(in->dims, in->packed_bw[set], in->decay.a_log, in->decay.dt_bias, nullptr,
                          &in->rope, in->positions_b, in->state_bhpn[set]);
          }};
}

int64_t document_count(const ScanShape& shape) {
  return static_cast<int64_t>(document_offsets(shape.batch, shape.tokens, shape.documents).size()) - 1;
}

std::string ssd_path() {
  return ops::ssd_path_description(dims_of(1, 1), at::Device(at::kCUDA, 0), at::kBFloat16);
}

std::string ssd_step_path() {
  return ops::ssd_step_path_description(dims_of(1, 1), at::Device(at::kCUDA, 0), at::kBFloat16);
}

double ssd_bytes(const ScanShape& shape, Pass pass) {
  const double bc = 2.0 * static_cast<double>(shape.groups) / static_cast<double>(shape.heads);
  return unit_bytes(shape) * (pass == Pass::forward ? 2 + bc : 3 + bc + 4 + 2 * bc);
}

double ssd_step_bytes(int64_t batch, int64_t heads) {
  return 2.0 * 4.0 * static_cast<double>(batch * heads * kWidth * kWidth);
}

double ssd_flops(const ScanShape& shape, Pass pass) {
  constexpr double kChunk = 64, kWide = kWidth;
  // Per token and head. C Bᵀ and M X take 64 products of width 128 each, with everything above the diagonal;
  // C·state and the state's update 128.
  constexpr double kForward = 2 * (2 * kChunk * kWide + 2 * kWide * kWide);
  // C Bᵀ again, dY Xᵀ, Mᵀ dY, dS B, dSᵀ C; and dY stateᵀ, C dstate, B dstate, X dstateᵀ.
  constexpr double kBackward = 2 * (5 * kChunk * kWide + 4 * kWide * kWide);
  const auto token_heads = static_cast<double>(shape.batch * shape.tokens * shape.heads);
  return token_heads * (pass == Pass::forward ? kForward : kForward + kBackward);
}

}  // namespace transxssm::bench
