#include "bench/stream_work.h"

#include <functional>
#include <map>
#include <memory>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>

#include "bench/cross_entropy_work.h"
#include "bench/input_sets.h"
#include "core/check.h"
#include "ops/adamw.h"
#include "ops/causal_conv1d.h"
#include "ops/embedding.h"
#include "ops/grad_norm.h"
#include "ops/rms_norm.h"
#include "ops/swiglu.h"

namespace transxssm::bench {
namespace {

constexpr double kEps = 1e-5;

struct Size {
  int64_t tokens, width;
  double unit() const { return 2.0 * static_cast<double>(tokens * width); }  // bytes of one bf16 tensor
};

at::TensorOptions bf16() { return at::TensorOptions(at::kCUDA).dtype(at::kBFloat16); }
at::TensorOptions f32() { return at::TensorOptions(at::kCUDA).dtype(at::kFloat); }

at::Tensor leaf(at::IntArrayRef shape) { return at::randn(shape, bf16()).set_requires_grad(true); }

ParameterPtr vector_parameter(int64_t width) {
  return c10::make_intrusive<Parameter>("w", at::randn({width}, f32()).set_requires_grad(true),
                                        at::zeros({width}, f32()));
}

// An operator of some inputs, and the outputs' gradients for backward.
struct Function {
  std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)> run;
  std::vector<std::vector<at::Tensor>> inputs, gradients;  // by set
};

// `forward_units`, `both_units`: bytes in units of one bf16 [tokens, width].
std::vector<StreamCase> passes(const Size& size, const std::vector<std::vector<int64_t>>& input_shapes,
                               const std::vector<std::vector<int64_t>>& output_shapes, double forward_units,
                               double both_units, decltype(Function::run) run) {
  const auto f = std::make_shared<Function>();
  f->run = std::move(run);
  for (size_t set = 0; set < input_sets(forward_units * size.unit()); ++set) {
    f->inputs.emplace_back();
    f->gradients.emplace_back();
    for (const auto& shape : input_shapes) f->inputs.back().push_back(leaf(shape));
    for (const auto& shape : output_shapes) f->gradients.back().push_back(at::randn(shape, bf16()));
  }
  const size_t sets = f->inputs.size();
  const auto forward = [f](size_t set) {
    const at::NoGradGuard no_grad;
    f->run(f->inputs[set]);
  };
  const auto both = [f](size_t set) {
    torch::autograd::grad(f->run(f->inputs[set]), f->inputs[set], f->gradients[set]);
  };
  return {{"forward", forward_units * size.unit(), {sets, forward}},
          {"both", both_units * size.unit(), {sets, both}}};
}

std::vector<StreamCase> rms_norm(const Size& s) {
  const std::vector<int64_t> shape{s.tokens, s.width};
  return passes(s, {shape}, {shape}, 2, 2 + 3, [w = vector_parameter(s.width)](const auto& x) {
    return std::vector{ops::rms_norm(x[0], w, kEps)};
  });
}

// Backward reads the gradients of both results and the normed sum, and writes that of the sum.
std::vector<StreamCase> residual_rms_norm(const Size& s) {
  const std::vector<int64_t> shape{s.tokens, s.width};
  const auto run = [r = vector_parameter(s.width), w = vector_parameter(s.width)](const auto& x) {
    const auto [sum, u] = ops::residual_rms_norm({{x[0], r}, x[1]}, w, kEps, r);
    return std::vector{sum.x, u};
  };
  return passes(s, {shape, shape}, {shape, shape}, 4, 4 + 4, run);
}

std::vector<StreamCase> gated_rms_norm(const Size& s) {
  const auto run = [w = vector_parameter(s.width)](const auto& x) {
    return std::vector{ops::gated_rms_norm(x[0], x[1], w, kEps)};
  };
  const std::vector<int64_t> shape{s.tokens, s.width};
  return passes(s, {shape, shape}, {shape}, 3, 3 + 5, run);
}

// Four taps, one document; as many more columns pass as the 320M model has time steps.
std::vector<StreamCase> causal_conv1d(const Size& s) {
  constexpr int64_t kTaps = 4, kMore = 16;
  const auto parameter = [](at::IntArrayRef shape) {
    return c10::make_intrusive<Parameter>("w", at::randn(shape, f32()).set_requires_grad(true),
                                          at::zeros(shape, f32()));
  };
  const std::vector<int64_t> shape{1, s.tokens, s.width + kMore};
  const auto run = [w = parameter({s.width, kTaps}), bias = parameter({s.width}),
                    documents = ops::one_document_per_row(1, s.tokens, at::kCUDA)](const auto& x) {
    return std::vector{ops::causal_conv1d(x[0], w, bias, documents)};
  };
  return passes(s, {shape}, {shape}, 2, 2 + 3, run);
}

// Backward without the product; with it (swiglu_linear) one tensor more.
std::vector<StreamCase> swiglu(const Size& s) {
  return passes(s, {{s.tokens, 2 * s.width}}, {{s.tokens, s.width}}, 3, 3 + 5,
                [](const auto& x) { return std::vector{ops::swiglu(x[0])}; });
}

// A vocabulary of 32 768 of which every token is equally likely. Backward reads dy and updates, in f32, the
// rows of the tokens that occur.
std::vector<StreamCase> embedding(const Size& s) {
  constexpr int64_t kVocabulary = 32768;
  const auto table = c10::make_intrusive<Parameter>("table", leaf({kVocabulary, s.width}),
                                                    at::zeros({kVocabulary, s.width}, f32()));
  const at::Tensor tokens = at::randint(kVocabulary, {s.tokens}, f32().dtype(at::kLong));
  const at::Tensor dy = at::randn({s.tokens, s.width}, bf16());
  std::vector<uint8_t> seen(kVocabulary);
  const at::Tensor on_host = tokens.cpu();
  for (int64_t i = 0; i < s.tokens; ++i) seen[static_cast<size_t>(on_host.const_data_ptr<int64_t>()[i])] = 1;
  double rows = 0;
  for (const uint8_t one : seen) rows += one;
  const double update = 2.0 * 4.0 * rows * static_cast<double>(s.width);
  const auto forward = [=](size_t) {
    const at::NoGradGuard no_grad;
    ops::embedding(tokens, table);
  };
  const auto both = [=](size_t) { ops::embedding(tokens, table).backward(dy); };
  return {{"forward", 2 * s.unit(), {1, forward}}, {"both", 3 * s.unit() + update, {1, both}}};
}

// Reads the gradient, reads and writes master, m and v, writes the bf16 copy: 30 bytes a parameter.
std::vector<StreamCase> adamw(const Size& s) {
  const int64_t n = s.tokens * s.width;
  const ops::AdamWControl control{at::full({}, 1e-3, f32()), at::full({}, 10, f32().dtype(at::kLong)),
                                  at::full({}, 1.0, f32()), at::full({}, true, f32().dtype(at::kBool))};
  const at::Tensor master = at::randn({n}, f32()), m = at::zeros({n}, f32()), v = at::zeros({n}, f32()),
                   grad = at::zeros({n}, f32()), compute = at::empty({n}, bf16());
  const auto step = [=](size_t) { ops::adamw({}, control, master, m, v, grad, compute); };
  return {{"step", 30.0 * static_cast<double>(n), {1, step}}};
}

std::vector<StreamCase> cross_entropy(const Size& s) { return cross_entropy_cases(s.tokens, s.width); }

std::vector<StreamCase> grad_norm(const Size& s) {
  const at::Tensor grad = at::randn({s.tokens * s.width}, f32());
  return {{"step", 2 * s.unit(), {1, [=](size_t) { ops::grad_norm({grad}); }}}};
}

const std::map<std::string, std::vector<StreamCase> (*)(const Size&)>& table() {
  static const std::map<std::string, std::vector<StreamCase> (*)(const Size&)> ops{
      {"rms_norm", rms_norm},
      {"residual_rms_norm", residual_rms_norm},
      {"gated_rms_norm", gated_rms_norm},
      {"swiglu", swiglu},
      {"embedding", embedding},
      {"adamw", adamw},
      {"causal_conv1d", causal_conv1d},
      {"cross_entropy", cross_entropy},
      {"grad_norm", grad_norm},
  };
  return ops;
}

}  // namespace

std::vector<std::string> stream_ops() {
  std::vector<std::string> names;
  for (const auto& [name, cases] : table()) names.push_back(name);
  return names;
}

std::vector<StreamCase> stream_cases(const std::string& op, int64_t tokens, int64_t width) {
  const auto found = table().find(op);
  expect(found != table().end(), concat("bench: no operator ", op));
  return found->second({tokens, width});
}

}  // namespace transxssm::bench
