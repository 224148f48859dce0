// Products with a parameter on a GPU in bf16: cuBLASLt with an algorithm that is chosen once per shape.
#pragma once

#include <nlohmann/json.hpp>

#include <ATen/core/Tensor.h>

#include "csrc_cuda/gemm/params.h"

namespace transxssm::ops {

// Whether gemm() is there for operands like this one.
bool has_gemm(const at::Tensor& operand);

// result = left ∘ right as kernels::GemmKind says, or += it; matrices on one device. Operands whose rows are
// not contiguous are copied. The algorithm: that of the checkpoint gone on from, else of gemm_table.h, else
// what a search finds now or found before (gemm_search.h), else (small, not dense, in a captured graph, added
// to the result) cuBLASLt's first proposal; the same in every call, so that a result has the same bits. All
// calls of a device share one workspace: they belong on one stream at a time.
void gemm(kernels::GemmKind kind, const at::Tensor& result, const at::Tensor& left, const at::Tensor& right,
          kernels::GemmResult old = kernels::GemmResult::replaced);

// While one lives, nothing is searched for this thread's products: for sizes that hardly come twice, such as
// those of prompts.
class NoGemmSearch {
 public:
  NoGemmSearch();
  ~NoGemmSearch();
  NoGemmSearch(const NoGemmSearch&) = delete;
  NoGemmSearch& operator=(const NoGemmSearch&) = delete;

 private:
  bool before_;
};

// By another algorithm, for measurements.
void gemm_by(const kernels::GemmAlgorithm& algorithm, kernels::GemmKind kind, const at::Tensor& result,
             const at::Tensor& left, const at::Tensor& right);
std::vector<kernels::GemmAlgorithm> gemm_proposals(const kernels::GemmShape& shape, int most);
kernels::GemmAlgorithm chosen_gemm(const kernels::GemmShape& shape);

// The choices of this process so far, for checkpoints: machine, and algorithms by shape; empty without any.
nlohmann::json gemm_record();

// How many products with a choice have run; a record is current while this stays the same.
size_t gemms_used();

// From here on the choices of such a record hold, where machine and cuBLASLt are the same; says so where they
// are not. An empty record does nothing.
void use_gemm_record(const nlohmann::json& record);

// Where the choices come from on a device, and why: for the log.
std::string gemm_source(at::Device device, at::ScalarType dtype);

// "weight_gradient 32768 1024 4096": rows, in, out.
std::string gemm_name(const kernels::GemmShape& shape);

}  // namespace transxssm::ops
