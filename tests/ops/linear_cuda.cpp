// Products with a parameter on CUDA in bf16: every layout against fp64, fixed choices, fixed bits.
#include <algorithm>
#include <cstdlib>
#include <functional>

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include "linear_cases.h"
#include "ops/gemm.h"
#include "ops/gemm_search.h"
#include "support/cuda_graph.h"
#include "support/temp_folder.h"

using namespace transxssm;
using kernels::GemmKind;

namespace {

at::Tensor bf16(at::IntArrayRef shape, uint64_t seed) {
  return f64_tensor(shape, seed).to(at::kCUDA, at::kBFloat16);
}

// Columns [1 or 8, …) of a wider tensor: rows further apart than they are long, odd addresses with `skip` 1.
at::Tensor columns_of_wider(const at::Tensor& x, int64_t skip) {
  const at::Tensor wide = at::full({x.size(0), x.size(1) + skip + 8}, 3, x.options());
  const at::Tensor view = wide.narrow(1, skip, x.size(1));
  view.copy_(x);
  return view;
}

struct Operands {
  at::Tensor x, w, dy, y, dx, grad;  // results are zero, `grad` one

  Operands(int64_t rows, int64_t in, int64_t out)
      : x(bf16({rows, in}, 1)), w(bf16({out, in}, 2)), dy(bf16({rows, out}, 3)) {
    y = at::zeros({rows, out}, x.options());
    dx = at::zeros({rows, in}, x.options());
    grad = at::full({out, in}, 1, x.options().dtype(at::kFloat));
  }
  void multiply() const {
    ops::multiply_into(y, x, w);
    ops::input_gradient_into(dx, dy, w);
    ops::add_weight_gradient(c10::make_intrusive<Parameter>("w", w, grad), dy, x);
  }
};

double relative(const at::Tensor& actual, const at::Tensor& exact) {
  return max_abs_diff(actual, exact) / max_abs(exact);
}

void require_products(const Operands& o) {
  o.multiply();
  INFO(o.x.sizes() << " -> " << o.w.size(0) << ", strides " << o.x.strides() << o.dy.strides()
                   << o.y.strides());
  // bf16 rounds to 2⁻⁹ of a value; sums are in f32.
  REQUIRE(relative(o.y, as_f64(o.x).matmul(as_f64(o.w).t())) <= 0x1p-8);
  REQUIRE(relative(o.dx, as_f64(o.dy).matmul(as_f64(o.w))) <= 0x1p-8);
  REQUIRE(relative(o.grad, as_f64(o.dy).t().matmul(as_f64(o.x)) + 1) <= 1e-5);
}

}  // namespace

TEST_CASE("linear on CUDA: products in bf16 of dense matrices of any size", "[ops][cuda]") {
  const auto [rows, in, out] = GENERATE(table<int64_t, int64_t, int64_t>(
      {{1, 8, 8}, {1, 31, 17}, {66, 129, 65}, {128, 256, 384}, {1000, 1024, 3080}, {4099, 64, 48}}));
  require_products(Operands(rows, in, out));
}

TEST_CASE("linear on CUDA: operands and results inside wider tensors, at odd addresses and transposed",
          "[ops][cuda]") {
  const int64_t skip = GENERATE(1, 8);
  Operands o(67, 40, 24);
  o.x = columns_of_wider(o.x, skip);
  o.dy = columns_of_wider(o.dy, skip);
  o.w = columns_of_wider(o.w, skip);
  o.y = columns_of_wider(o.y, skip);
  o.dx = columns_of_wider(o.dx, skip);
  require_products(o);
  for (const at::Tensor& view : {o.y, o.dx}) {  // what lies beside them is as it was
    const at::Tensor wide = view.as_strided({view.size(0), view.stride(0)}, {view.stride(0), 1}, 0);
    REQUIRE(max_abs_diff(wide.narrow(1, 0, skip), at::full({view.size(0), skip}, 3)) == 0);
    REQUIRE(max_abs_diff(wide.narrow(1, skip + view.size(1), 8), at::full({view.size(0), 8}, 3)) == 0);
  }
  Operands transposed(67, 40, 24);
  transposed.x = transposed.x.t().contiguous().t();
  transposed.dy = transposed.dy.t().contiguous().t();
  require_products(transposed);
  Operands repeated(67, 40, 24);
  repeated.dy = bf16({1, 24}, 5).expand({67, 24});
  require_products(repeated);
}

TEST_CASE("linear on CUDA: no rows leave the gradient as it is, or zero where it had no sum", "[ops][cuda]") {
  const Operands o(0, 16, 8);
  o.multiply();
  REQUIRE(max_abs_diff(o.grad, at::full({8, 16}, 1)) == 0);
  const auto w = c10::make_intrusive<Parameter>("w", o.w, o.grad);
  w->drop_sum();
  ops::add_weight_gradient(w, o.dy, o.x);
  REQUIRE(max_abs(o.grad) == 0);
}

TEST_CASE("linear on CUDA: a gradient without a sum is replaced, with the bits of a sum from zero",
          "[ops][cuda]") {
  const auto [rows, in, out] =
      GENERATE(table<int64_t, int64_t, int64_t>({{67, 40, 24}, {2048, 1024, 1024}, {8192, 512, 130}}));
  const Operands o(rows, in, out);
  const auto w = c10::make_intrusive<Parameter>("w", o.w, o.grad);
  o.grad.zero_();
  ops::add_weight_gradient(w, o.dy, o.x);
  const at::Tensor added = o.grad.clone();
  o.grad.fill_(NAN);
  w->drop_sum();
  ops::add_weight_gradient(w, o.dy, o.x);
  REQUIRE(same_bits(o.grad, added));
}

TEST_CASE("linear on CUDA: every run and a captured graph give the same bits", "[ops][cuda]") {
  const auto [rows, in, out] =
      GENERATE(table<int64_t, int64_t, int64_t>({{2048, 1024, 1024}, {8192, 512, 130}}));
  const Operands o(rows, in, out);
  const auto run = [&](const std::function<void()>& work) {
    o.grad.fill_(1);
    work();
    return std::vector<at::Tensor>{o.y.clone(), o.dx.clone(), o.grad.clone()};
  };
  const auto first = run([&] { o.multiply(); });
  CapturedGraph graph([&] { o.multiply(); });
  for (int repeat = 0; repeat < 20; ++repeat) {
    const auto plain = run([&] { o.multiply(); }), replayed = run([&] { graph.replay(); });
    for (size_t i = 0; i < first.size(); ++i) {
      REQUIRE(same_bits(plain[i], first[i]));
      REQUIRE(same_bits(replayed[i], first[i]));
    }
  }
}

TEST_CASE("linear on CUDA: a product that is in no table is timed once and found again by the next process",
          "[ops][cuda]") {
  const test::TempFolder cache;
  ::setenv("XDG_CACHE_HOME", (cache / "").c_str(), 1);
  const Operands o(4096, 520, 1032);  // in no shipped model
  const kernels::GemmShape shape{GemmKind::forward, 4096, 520, 1032};
  const std::string name = ops::gemm_name(shape);
  ops::multiply_into(o.y, o.x, o.w);
  const at::Tensor first = o.y.clone();
  const auto chosen = ops::gemm_record().at("algorithms").at(name).get<kernels::GemmAlgorithm>();
  REQUIRE(ops::kept_gemm(kernels::gemm_machine(), name) == chosen);
  const auto proposals = ops::gemm_proposals(shape, 24);
  REQUIRE(std::find(proposals.begin(), proposals.end(), chosen) != proposals.end());

  // As another process would: nothing in memory, another algorithm in the file.
  auto record = ops::gemm_record();
  record["algorithms"] = nlohmann::json::object();
  const auto& other = proposals.front() == chosen ? proposals.back() : proposals.front();
  ops::keep_gemm(kernels::gemm_machine(), name, other);
  ops::use_gemm_record(record);
  REQUIRE(ops::chosen_gemm(shape) == other);
  ops::keep_gemm(kernels::gemm_machine(), name, chosen);
  ops::use_gemm_record(record);
  ops::multiply_into(o.y, o.x, o.w);
  REQUIRE(same_bits(o.y, first));
  require_products(o);
  ::unsetenv("XDG_CACHE_HOME");
}

TEST_CASE("linear on CUDA: a checkpoint's algorithms are taken, those of another machine are not",
          "[ops][cuda]") {
  const Operands o(264, 136, 72);
  const kernels::GemmShape shape{GemmKind::forward, 264, 136, 72};
  o.multiply();
  auto record = ops::gemm_record();
  const std::string name = ops::gemm_name(shape);
  const auto first = ops::chosen_gemm(shape);
  REQUIRE(record.at("algorithms").at(name).get<kernels::GemmAlgorithm>() == first);
  const auto proposals = ops::gemm_proposals(shape, 8);
  REQUIRE(proposals.size() > 1);
  REQUIRE(proposals.front() == first);

  record["algorithms"][name] = proposals.back();
  auto foreign = record;
  foreign["machine"]["cublaslt"] = 1;
  ops::use_gemm_record(foreign);
  REQUIRE(ops::chosen_gemm(shape) == first);
  ops::use_gemm_record(record);
  REQUIRE(ops::chosen_gemm(shape) == proposals.back());
  REQUIRE(ops::gemm_record() == record);
  require_products(Operands(264, 136, 72));
}
