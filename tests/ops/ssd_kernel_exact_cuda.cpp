// The SSD scan's kernels on numbers that bf16 holds exactly, all the way through: what is left of an error is
// a mistake and not rounding.
#include <cmath>

#include "ssd_kernel_cases.h"

using namespace transxssm;

namespace {

// −1, 0, 1; one in four is not 0.
at::Tensor few_ones(at::IntArrayRef shape, uint64_t seed) {
  const at::Tensor v = random_values(shape, seed);
  return at::where(v.abs() > 1.15, v.sign(), 0.);
}

// [B, T, H·128] with one value of each token and head that is not 0, ±scale, a column on from token to token.
at::Tensor one_column(const ops::Documents& documents, int64_t heads, int64_t shift, int64_t shift_by_head,
                      double scale) {
  const int64_t tokens = documents.seq_len;
  const at::Tensor column =
      at::arange(tokens, at::kLong).unsqueeze(1) + at::arange(heads, at::kLong) * shift_by_head + shift;
  const at::Tensor hot = at::zeros({documents.batch, tokens, heads, 128}, at::kDouble);
  const at::Tensor signs = random_values({documents.batch, tokens, heads, 1}, 31).sign();
  const at::Tensor place =
      column.remainder(128).unsqueeze(0).unsqueeze(3).expand({documents.batch, tokens, heads, 1});
  return hot.scatter(3, place, signs * scale).flatten(2);
}

// Angles that are multiples of a right angle.
ops::RopeTable quarter_turns(int64_t positions) {
  const at::Tensor turns =
      (at::arange(positions, at::kLong).unsqueeze(1) * at::arange(64, at::kLong)).remainder(4);
  const auto table = [&](std::vector<double> values) {
    return at::tensor(values, at::kDouble).index_select(0, turns.flatten()).view(turns.sizes());
  };
  return {table({1, 0, -1, 0}), table({0, 1, 0, -1})};
}

// Δ = 1. Decay 1/2 a token, or so little that it cannot be seen.
//
// Every value of a state, an output or a gradient has one term that counts (those of 128 tokens before are
// 2⁻¹²⁸ of it), or is a sum of a few small integers where nothing decays.
SsdCase exact_case(const ops::Documents& documents, int64_t heads, int64_t groups, bool halves) {
  SsdCase c = kernel_case(documents, heads, groups);
  const int64_t batch = documents.batch, tokens = documents.seq_len;
  c.packed = at::cat({few_ones({batch, tokens, 2 * groups * 128}, 3), one_column(documents, heads, 0, 17, 1),
                      at::zeros({batch, tokens, heads}, at::kDouble)},
                     2);
  c.rope = quarter_turns(tokens);
  c.d_skip = f64_parameter("d_skip", {heads}, 5);
  const at::NoGradGuard no_grad;
  c.a_log->weight.fill_(std::log(halves ? std::log(2.) : 1e-9));
  c.dt_bias->weight.fill_(std::log(std::exp(1.) - 1));
  c.d_skip->weight.copy_(at::arange(heads, at::kDouble) + 2);
  if (!halves) c.initial_state = few_ones({batch, heads, 128, 128}, 4);
  return c;
}

void require_exact(const at::Tensor& actual, const at::Tensor& exact, double relative) {
  const at::Tensor reference = as_f64(exact), error = (as_f64(actual) - reference).abs();
  const at::Tensor allowed = relative * reference.abs() + 1e-6 * max_abs(reference);
  INFO("largest error " << error.max().item<double>() << " among values up to " << max_abs(reference) << "; "
                        << (error > allowed).sum().item<int64_t>() << " of " << error.numel() << " are off");
  REQUIRE((error <= allowed).all().item<bool>());
}

}  // namespace

TEST_CASE("ssd kernels: exact where bf16 rounds nothing", "[ops][cuda]") {
  if (!kernels_run_here()) return;
  const auto [batch, tokens, heads, groups] = GENERATE(table<int64_t, int64_t, int64_t, int64_t>(
      {{2, 300, 2, 2}, {2, 191, 2, 1}, {1, 1100, 2, 2}, {52, 70, 2, 2}}));
  const bool halves = GENERATE(true, false);
  CAPTURE(batch, tokens, heads, groups, halves);
  std::vector<std::vector<int64_t>> starts(static_cast<size_t>(batch));
  starts.back() = {tokens / 3, tokens / 3 + 64, tokens * 2 / 3};
  const SsdCase gpu = on_gpu(exact_case(documents_at(starts, tokens), heads, groups, halves));
  // The gradient of a token's output meets X of 5 tokens before, of 8 in the second head.
  const at::Tensor dy = one_column(gpu.documents, heads, -5, 14, 2).to(at::kBFloat16);
  const at::Tensor dfinal = halves ? at::Tensor() : few_ones({batch, heads, 128, 128}, 6);
  const SsdOutcome exact = exact_outcome(gpu, dy, dfinal), actual = ssd_outcome(gpu, dy, dfinal);

  // f32 sums and powers of two: 64 tokens' decays add up to 64 with an error of 4e-6.
  constexpr double kF32 = 3e-5;
  const int64_t tau = ops::ssd_packed_columns(gpu.dims) - heads;
  for (const auto& [name, tensor] : exact.tensors) {
    INFO(name);
    if (name == "d packed") {
      require_exact(actual[name].narrow(2, 0, tau), tensor.narrow(2, 0, tau), kF32);
      // This one is rounded, and is a difference.
      const at::Tensor d_tau = as_f64(tensor.narrow(2, tau, heads));
      const at::Tensor error = (as_f64(actual[name].narrow(2, tau, heads)) - d_tau).abs();
      REQUIRE((error <= d_tau.abs() / 256 + 1e-5 * max_abs(d_tau)).all().item<bool>());
    } else if (tensor.dim() > 1) {
      require_exact(actual[name], tensor, kF32);
    }
  }
  for (const auto& [parameter, values] : contributions(gpu, exact, dy)) {
    INFO(parameter);
    const at::Tensor error = (as_f64(actual[parameter]) - as_f64(exact[parameter])).abs();
    const at::Tensor terms = as_f64(values).abs().flatten(0, 1).sum(0);
    REQUIRE((error <= 1e-5 * terms).all().item<bool>());
  }
}
