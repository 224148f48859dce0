// What the tests of the SSD scan's CUDA kernels share: cases of their widths, and how far from f64 they may
// be.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/full.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/where.h>

#include "ops/ssd.h"
#include "support/catch.h"
#include "support/ssd_case.h"

namespace transxssm {

inline const at::Device kGpu(at::kCUDA, 0);

// False, with a warning, on a GPU that the kernels are not for. That it has none is test_support's business.
inline bool kernels_run_here() {
  const std::string path = ops::ssd_path_description({1, 128, 128, 1, 64}, kGpu, at::kBFloat16);
  if (path.find("need a GPU") != std::string::npos) {
    WARN("skipped: " << path);
    return false;
  }
  INFO(path);
  REQUIRE(path.find("CUDA kernels") == 0);
  return true;
}

// N(0, scale²) for shapes at which f64_tensor takes seconds: a window of one table, whose prime length keeps
// rows and heads different.
inline at::Tensor random_values(at::IntArrayRef shape, uint64_t seed, double scale = 1) {
  constexpr int64_t kTable = 1'000'003;
  static const at::Tensor table = f64_tensor({kTable}, 11);
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  const auto begin = static_cast<int64_t>(seed * 7919 % kTable);
  return table.repeat({(begin + count) / kTable + 1}).narrow(0, begin, count).view(shape) * scale;
}

// f64 on the CPU; Δ around 0.13, heads that remember about 8, 35 and 150 tokens in turn.
inline SsdCase kernel_case(const ops::Documents& documents, int64_t heads, int64_t groups,
                           uint64_t seed = 1) {
  SsdCase c;
  c.dims = {heads, 128, 128, groups, 64};
  c.documents = documents;
  c.packed = random_values({documents.batch, documents.seq_len, ops::ssd_packed_columns(c.dims)}, seed);
  c.a_log = f64_parameter("a_log", {heads}, seed + 1, 0.3);
  c.dt_bias = f64_parameter("dt_bias", {heads}, seed + 2, 0.3);
  const at::NoGradGuard no_grad;
  c.a_log->weight.sub_(at::arange(heads, at::kDouble).remainder(3) * 1.5);
  c.dt_bias->weight.sub_(2);
  return c;
}

inline void add_rope(SsdCase& c, int64_t positions) { c.rope = f64_rope(positions, 128, 10000); }
inline void add_d_skip(SsdCase& c) { c.d_skip = f64_parameter("d_skip", {c.dims.num_heads}, 5); }
inline void add_initial_state(SsdCase& c) {
  c.initial_state = random_values({c.documents.batch, c.dims.num_heads, 128, 128}, 9);
}
inline void add_everything(SsdCase& c) {
  add_rope(c, c.documents.seq_len);
  add_d_skip(c);
  add_initial_state(c);
}

// The same values as part of a larger buffer of NaNs: rows before and after each sequence, eight columns
// before its own and at least eight behind, `unused` columns inside the view.
inline at::Tensor among_nans(const at::Tensor& packed_btw, int64_t unused = 3) {
  const int64_t tokens = packed_btw.size(1), columns = packed_btw.size(2);
  const int64_t row = (8 + columns + unused + 7) / 8 * 8 + 8;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const at::Tensor buffer = at::full({packed_btw.size(0), tokens + 2, row}, nan, packed_btw.options());
  const at::Tensor view = buffer.narrow(1, 1, tokens).narrow(2, 8, columns + unused);
  view.narrow(2, 0, columns).copy_(packed_btw);
  return view;
}

// The same numbers in a buffer of its own.
inline SsdCase copy_of(const SsdCase& c) {
  SsdCase copy = c;
  copy.packed = among_nans(c.packed.detach().narrow(2, 0, ops::ssd_packed_columns(c.dims)));
  return copy;
}

// As the kernels get it, packed input among NaNs.
inline SsdCase on_gpu(const SsdCase& c) {
  SsdCase gpu = converted(c, at::kBFloat16, kGpu);
  gpu.packed = among_nans(gpu.packed);
  return gpu;
}

// Gradients of y (values that bf16 has) and of the final state.
inline std::pair<at::Tensor, at::Tensor> kernel_cotangents(const SsdCase& c, uint64_t seed = 77) {
  const ops::Documents& docs = c.documents;
  return {random_values({docs.batch, docs.seq_len, c.dims.num_heads * 128}, seed).to(at::kBFloat16),
          random_values({docs.batch, c.dims.num_heads, 128, 128}, seed + 1)};
}

// In f64: the recurrence where that is quick, else the chunked form, which equals it to 1e-10
// (tests/ops/ssd.cpp); on the GPU where a CPU would take long.
inline SsdOutcome exact_outcome(const SsdCase& gpu, const at::Tensor& dy, const at::Tensor& dfinal) {
  const int64_t size = gpu.documents.batch * gpu.documents.seq_len * gpu.dims.num_heads;
  const at::Device device = size <= 20'000 ? at::kCPU : kGpu;
  return ssd_outcome(converted(gpu, at::kDouble, device), dy, dfinal, /*sequential=*/size <= 600);
}

// One result or gradient, by sequence and head (or group): f64 [B, H, values].
struct SsdPart {
  std::string name;
  at::Tensor values;
};

inline at::Tensor columns_by_head(const at::Tensor& btw, int64_t begin, int64_t heads, int64_t width) {
  return btw.narrow(2, begin, heads * width).unflatten(2, {heads, width}).permute({0, 2, 1, 3}).flatten(2);
}

inline std::vector<SsdPart> parts_of(const ops::SsdDims& d, const SsdOutcome& outcome, at::Device device) {
  const int64_t heads = d.num_heads, groups = d.num_groups;
  const auto f64 = [&](const at::Tensor& x) { return x.detach().to(device, at::kDouble); };
  const at::Tensor d_packed = f64(outcome["d packed"]);
  std::vector<SsdPart> parts{{"y", columns_by_head(f64(outcome["y"]), 0, heads, 128)},
                             {"final state", f64(outcome["final state"]).flatten(2)},
                             {"dC", columns_by_head(d_packed, 0, groups, 128)},
                             {"dB", columns_by_head(d_packed, groups * 128, groups, 128)},
                             {"dX", columns_by_head(d_packed, 2 * groups * 128, heads, 128)},
                             {"d tau", columns_by_head(d_packed, (2 * groups + heads) * 128, heads, 1)}};
  for (const auto& [name, tensor] : outcome.tensors)
    if (name == "d initial state") parts.push_back({name, f64(tensor).flatten(2)});
  return parts;
}

enum class Outliers { none, present };

// Rounding to bf16 costs 2⁻⁹/√3 = 1.1e-3 of a value, as RMS. y and the gradients of C, B, X, τ see up to five
// such roundings (turned C and B, weights of pairs, copy of the state, result), states two and none of their
// own: the limits are twice what those add up to.
//
// By sequence and head the same, but a sum of a few tokens can be small by chance where its error is not, so
// a part counts with at least half the mean size; and the RMS of few values scatters, more so where they
// differ in size.
//
// Largest error: half a unit in the last place of the value itself, and six times the RMS where tokens of
// large Δ are six times the mean, or nine times among more than a hundred thousand.
//
// Where one token outweighs all others so does its C·B, a sum of 128 terms that may come out a third of its
// usual size.
inline void require_parts_close(const ops::SsdDims& dims, const SsdOutcome& actual, const SsdOutcome& exact,
                                Outliers outliers = Outliers::none) {
  const at::Device device = exact["y"].device();
  const std::vector<SsdPart> parts = parts_of(dims, actual, device),
                             references = parts_of(dims, exact, device);
  REQUIRE(parts.size() == references.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string& name = parts[i].name;
    // Products of small f32 numbers need not keep what is smaller yet.
    const at::Tensor reference = at::where(references[i].values.abs() < 1e-30, 0., references[i].values);
    const at::Tensor error = (parts[i].values - reference).abs();
    const double steepest = exact["y"].numel() / 128 > 100'000 ? 9 : 6;
    const double even_limit = name.find("state") != std::string::npos ? 4e-3 : 6e-3;
    const double limit = outliers == Outliers::none ? even_limit : 3 * even_limit;
    const double head_limit = limit * (1 + 6 / std::sqrt(static_cast<double>(reference.size(2))));
    const double typical = reference.square().mean().sqrt().item<double>();
    const at::Tensor scale =
        reference.square().mean(-1).sqrt().clamp_min(typical > 0 ? typical / 2 : 1);  // [B, H]
    const at::Tensor by_head = error.square().mean(-1).sqrt() / scale;
    const double worst = by_head.max().item<double>();
    const double size = reference.norm().item<double>();
    const double overall = error.norm().item<double>() / (size > 0 ? size : 1);
    const double largest = ((error - reference.abs() / 256).amax(-1) / scale).max().item<double>();
    INFO(name << ": RMS error " << overall << ", allowed " << limit << "; of part "
              << by_head.argmax().item<int64_t>() << " of " << by_head.numel() << " " << worst << ", allowed "
              << head_limit << "; largest " << largest << ", allowed " << 3 * steepest * limit);
    REQUIRE(overall <= limit);
    REQUIRE(worst <= head_limit);
    if (outliers == Outliers::none) REQUIRE(largest <= 3 * steepest * limit);
  }
  // What the operator does not read has no gradient.
  const int64_t used = ops::ssd_packed_columns(dims);
  const at::Tensor& d_packed = actual["d packed"];
  REQUIRE(max_abs(d_packed.narrow(2, used, d_packed.size(2) - used)) == 0);
}

// What every token adds to the gradient of a parameter: f64 [B, T, H].
struct SsdContributions {
  std::string parameter;
  at::Tensor values;
};

// From exact gradients. With direct = x · (gradient of Δ X), da the gradient of the token's log-decay
// −e^{A_log} Δ, and σ the slope of softplus:
//   dτ = σ (direct − e^{A_log} da)     Δ direct = x · (dX − D dy)
//   d dt_bias = Σ dτ     d A_log = −Σ e^{A_log} Δ da = Σ (Δ dτ / σ − Δ direct)     d D = Σ x · dy
inline std::vector<SsdContributions> contributions(const SsdCase& c, const SsdOutcome& exact,
                                                   const at::Tensor& dy) {
  const int64_t heads = c.dims.num_heads, x_begin = 2 * c.dims.num_groups * 128;
  const auto f64 = [device = exact["y"].device()](const at::Tensor& x) {
    return x.detach().to(device, at::kDouble);
  };
  const auto by_head = [&](const at::Tensor& btw, int64_t begin) {
    return f64(btw).narrow(2, begin, heads * 128).unflatten(2, {heads, 128});  // [B, T, H, P]
  };
  const at::Tensor x = by_head(c.packed, x_begin), dx = by_head(exact["d packed"], x_begin);
  const at::Tensor x_dy = dy.defined() ? (x * by_head(dy, 0)).sum(-1) : at::zeros_like(x.select(3, 0));
  at::Tensor direct = (x * dx).sum(-1);
  if (c.d_skip) direct = direct - f64(c.d_skip->weight) * x_dy;
  const int64_t tau = x_begin + heads * 128;
  const at::Tensor dtau = f64(exact["d packed"]).narrow(2, tau, heads);
  const at::Tensor pre_activation = f64(c.packed).narrow(2, tau, heads) + f64(c.dt_bias->weight);
  const at::Tensor dt = at::softplus(pre_activation, 1, 40);
  std::vector<SsdContributions> all{{"d a_log", dt * dtau / pre_activation.sigmoid() - direct},
                                    {"d dt_bias", dtau}};
  if (c.d_skip) all.push_back({"d d_skip", x_dy});
  return all;
}

// Sums of terms of both signs: their errors must be judged by the terms. What a token's term has of its own
// is 1e-2 of it at most, as RMS, and adds up as squares. What tokens share (a turned C or B enters all pairs
// of its token, and 128 tokens start from one <state, gradient>) is 2⁻⁹ of the terms' size as RMS, may have
// one sign in 128 tokens, and adds up by size there, as squares beyond. Four times that.
//
// `memory`: tokens that a state remembers, where that is more than 128 by far. The roundings of one token's C
// or B stay in the state and its gradient for so long.
inline void require_sums_close(const SsdCase& c, const SsdOutcome& actual, const SsdOutcome& exact,
                               const at::Tensor& dy, int64_t memory) {
  const auto total = [](const at::Tensor& bth) { return bth.flatten(0, 1).sum(0); };
  for (const auto& [parameter, values] : contributions(c, exact, dy)) {
    const at::Tensor sum = exact[parameter];
    const at::Tensor error = (actual[parameter].to(sum.device(), at::kDouble) - sum).abs();
    const at::Tensor padded =
        at::constant_pad_nd(values, {0, 0, 0, (memory - values.size(1) % memory) % memory});
    const at::Tensor stretches = padded.abs().unflatten(1, {-1, memory}).sum(2);  // [B, stretches, H]
    const at::Tensor independent = total(values.square()).sqrt();
    // Below the smallest f32 values nothing is expected.
    const at::Tensor limit =
        1e-2 * independent + total(stretches.square()).sqrt() / 128 + std::numeric_limits<float>::min();
    const int64_t worst = (error / limit).argmax().item<int64_t>();
    INFO(parameter << ", head " << worst << ": " << sum[worst].item<double>() << " with error "
                   << error[worst].item<double>() << ", allowed " << limit[worst].item<double>()
                   << ", root of the sum of squares " << independent[worst].item<double>());
    REQUIRE((error / limit).max().item<double>() <= 1);
  }
}

// The kernels against f64 on the same numbers, values and gradients.
inline void require_close_to_f64(const SsdCase& gpu, const at::Tensor& dy, const at::Tensor& dfinal,
                                 Outliers outliers = Outliers::none, int64_t memory = 128) {
  const SsdOutcome exact = exact_outcome(gpu, dy, dfinal), actual = ssd_outcome(gpu, dy, dfinal);
  REQUIRE(actual["y"].scalar_type() == at::kBFloat16);
  REQUIRE(actual["final state"].scalar_type() == at::kFloat);
  require_parts_close(gpu.dims, actual, exact, outliers);
  require_sums_close(gpu, actual, exact, dy, memory);
}

inline void require_close_to_f64(const SsdCase& gpu) {
  const auto [dy, dfinal] = kernel_cotangents(gpu);
  require_close_to_f64(gpu, dy, dfinal);
}

}  // namespace transxssm
