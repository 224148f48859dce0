#include "ops/gemm.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>

#include "core/check.h"
#include "core/logging.h"
#include "ops/cuda_stream.h"
#include "ops/gemm_search.h"
#include "ops/gemm_table.h"

namespace transxssm::ops {
namespace {

using kernels::GemmAlgorithm;
using kernels::GemmKind;
using kernels::GemmMachine;
using kernels::GemmProblem;
using kernels::GemmResult;
using kernels::GemmShape;

constexpr int64_t kWorkspaceBytes = int64_t{64} << 20;
constexpr int64_t kFullAlignment = 256;  // of Torch's allocations, of parameters, and of what choices are for

// Guards what follows. Operators run on the caller's thread and on Autograd's.
std::mutex& mutex() {
  static std::mutex one;
  return one;
}

struct Choices {
  std::map<std::pair<int, GemmProblem>, GemmAlgorithm> of_problem;  // device, problem
  std::map<std::string, GemmAlgorithm> recorded;                    // in the checkpoint gone on from
  std::map<std::string, GemmAlgorithm> used;                        // of dense problems
};

Choices& choices() {
  static Choices all;
  return all;
}

// One buffer per device, made by the first product, for good.
const at::Tensor& workspace(at::Device device) {
  static std::map<int, at::Tensor> of_device;
  at::Tensor& buffer = of_device[device.index()];
  if (!buffer.defined()) buffer = at::empty({kWorkspaceBytes}, at::TensorOptions(device).dtype(at::kByte));
  return buffer;
}

const char* const kKindNames[] = {"forward", "input_gradient", "weight_gradient"};

int64_t left_columns(const GemmShape& s) { return s.kind == GemmKind::forward ? s.in : s.out; }
int64_t right_columns(const GemmShape& s) { return s.in; }
int64_t result_columns(const GemmShape& s) { return s.kind == GemmKind::forward ? s.out : s.in; }

GemmProblem dense_problem(const GemmShape& s) {
  return {s, {left_columns(s), right_columns(s), result_columns(s)}, kFullAlignment, kWorkspaceBytes};
}

std::optional<GemmAlgorithm> in_table(const GemmShape& shape) {
  if (kernels::gemm_machine() != kGemmTableMachine) return std::nullopt;
  const auto found = std::find_if(kGemmTable.begin(), kGemmTable.end(),
                                  [&](const GemmTableEntry& entry) { return entry.shape == shape; });
  return found == kGemmTable.end() ? std::nullopt : std::optional(found->algorithm);
}

GemmAlgorithm first_proposal(const GemmProblem& problem) {
  const auto proposals = kernels::gemm_proposals(problem, 1);
  expect(!proposals.empty(), concat("gemm: cuBLASLt has no algorithm for ", gemm_name(problem.shape)));
  return proposals.front();
}

// What is known of a product: records, the table and searches are of dense, fully aligned matrices.
std::optional<GemmAlgorithm> known(const GemmProblem& problem) {
  if (problem != dense_problem(problem.shape)) return std::nullopt;
  const std::string name = gemm_name(problem.shape);
  const auto acceptable = [&](const std::optional<GemmAlgorithm>& algorithm) {
    return algorithm && kernels::gemm_accepts(problem, *algorithm);
  };
  const auto recorded = choices().recorded.find(name);
  if (recorded != choices().recorded.end() && acceptable(recorded->second)) return recorded->second;
  if (const auto listed = in_table(problem.shape); acceptable(listed)) return listed;
  if (const auto kept = kept_gemm(kernels::gemm_machine(), name); acceptable(kept)) return kept;
  return std::nullopt;
}

bool& searches() {
  thread_local bool allowed = true;
  return allowed;
}

// Times proposals on the operands of `params`, whose result is about to be written.
std::optional<GemmAlgorithm> search(kernels::GemmParams params, CUstream_st* stream) {
  constexpr int kProposals = 24, kRepeats = 3;
  const GemmProblem& problem = params.problem;
  if (problem != dense_problem(problem.shape) || params.old != GemmResult::replaced ||
      !worth_a_search(problem.shape) || !searches())
    return std::nullopt;
  bool timed = true;
  const GemmAlgorithm best =
      search_gemm(kernels::gemm_proposals(problem, kProposals), [&](const GemmAlgorithm& algorithm) {
        params.algorithm = algorithm;
        const auto ms = timed ? kernels::gemm_milliseconds(params, kRepeats, stream) : std::nullopt;
        timed = ms.has_value();
        return ms.value_or(0);
      });
  if (!timed) return std::nullopt;
  keep_gemm(kernels::gemm_machine(), gemm_name(problem.shape), best);
  return best;
}

GemmAlgorithm choice_for(int device, const kernels::GemmParams& params, CUstream_st* stream) {
  auto& all = choices();
  const GemmProblem& problem = params.problem;
  const auto key = std::pair(device, problem);
  if (const auto found = all.of_problem.find(key); found != all.of_problem.end()) return found->second;
  std::optional<GemmAlgorithm> algorithm = known(problem);
  if (!algorithm) algorithm = search(params, stream);
  if (!algorithm) algorithm = first_proposal(problem);
  all.of_problem.emplace(key, *algorithm);
  if (problem == dense_problem(problem.shape)) all.used[gemm_name(problem.shape)] = *algorithm;
  return *algorithm;
}

int64_t row_stride(const at::Tensor& x) { return x.size(0) == 1 ? x.size(1) : x.stride(0); }

at::Tensor with_dense_rows(const at::Tensor& x) {
  const bool dense = (x.size(1) == 1 || x.stride(1) == 1) && row_stride(x) >= x.size(1);
  return dense ? x : x.contiguous();
}

int64_t alignment_of(const at::Tensor& x) {
  const auto address = reinterpret_cast<uintptr_t>(x.const_data_ptr());
  return std::min(kFullAlignment, static_cast<int64_t>(address & -address));
}

GemmShape shape_of(GemmKind kind, const at::Tensor& left, const at::Tensor& right) {
  switch (kind) {
    case GemmKind::forward:
      return {kind, left.size(0), left.size(1), right.size(0)};
    case GemmKind::input_gradient:
      return {kind, left.size(0), right.size(1), left.size(1)};
    default:
      return {kind, left.size(0), right.size(1), left.size(1)};
  }
}

void check(const GemmShape& s, const at::Tensor& result, const at::Tensor& left, const at::Tensor& right) {
  const bool weight_gradient = s.kind == GemmKind::weight_gradient;
  const auto result_type = weight_gradient ? at::kFloat : at::kBFloat16;
  const int64_t result_rows = weight_gradient ? s.out : s.rows;
  const int64_t right_rows = weight_gradient ? s.rows : s.out;
  expect(left.scalar_type() == at::kBFloat16 && right.scalar_type() == at::kBFloat16 &&
             result.scalar_type() == result_type && right.size(0) == right_rows && right.size(1) == s.in &&
             left.size(1) == left_columns(s) && result.size(0) == result_rows &&
             result.size(1) == result_columns(s) && result.device() == left.device() &&
             right.device() == left.device(),
         concat("gemm ", gemm_name(s), ": got left ", left.sizes(), " ", left.scalar_type(), ", right ",
                right.sizes(), " ", right.scalar_type(), ", result ", result.sizes(), " ",
                result.scalar_type()));
  expect((result.size(1) == 1 || result.stride(1) == 1) && row_stride(result) >= result.size(1),
         concat("gemm ", gemm_name(s), ": rows of the result are not contiguous, its strides are ",
                result.strides()));
}

void run(GemmKind kind, const at::Tensor& result, const at::Tensor& any_left, const at::Tensor& any_right,
         GemmResult old, const GemmAlgorithm* algorithm) {
  const GemmShape shape = shape_of(kind, any_left, any_right);
  check(shape, result, any_left, any_right);
  if (shape.rows == 0 || result.numel() == 0) {
    if (old == GemmResult::replaced) at::Tensor(result).zero_();  // a sum of nothing
    return;
  }
  const c10::DeviceGuard on_device(result.device());
  const at::Tensor left = with_dense_rows(any_left), right = with_dense_rows(any_right);
  const GemmProblem problem{shape,
                            {row_stride(left), row_stride(right), row_stride(result)},
                            std::min({alignment_of(left), alignment_of(right), alignment_of(result)}),
                            kWorkspaceBytes};
  const std::lock_guard lock(mutex());
  kernels::GemmParams params{
      .problem = problem,
      .old = old,
      .algorithm = {},
      .left = left.const_data_ptr(),
      .right = right.const_data_ptr(),
      .result = result.mutable_data_ptr(),
      .workspace = workspace(result.device()).mutable_data_ptr(),
  };
  const auto stream = current_stream(result);
  params.algorithm = algorithm ? *algorithm : choice_for(result.device().index(), params, stream);
  kernels::gemm(params, stream);
}

nlohmann::json to_json(const GemmMachine& m) {
  return {
      {"cublaslt", m.library}, {"compute_capability", m.capability}, {"multiprocessors", m.multiprocessors}};
}

}  // namespace

NoGemmSearch::NoGemmSearch() : before_(std::exchange(searches(), false)) {}
NoGemmSearch::~NoGemmSearch() { searches() = before_; }

bool has_gemm(const at::Tensor& operand) {
  return operand.is_cuda() && operand.scalar_type() == at::kBFloat16;
}

void gemm(GemmKind kind, const at::Tensor& result, const at::Tensor& left, const at::Tensor& right,
          GemmResult old) {
  run(kind, result, left, right, old, nullptr);
}

void gemm_by(const GemmAlgorithm& algorithm, GemmKind kind, const at::Tensor& result, const at::Tensor& left,
             const at::Tensor& right) {
  run(kind, result, left, right, GemmResult::replaced, &algorithm);
}

std::vector<GemmAlgorithm> gemm_proposals(const GemmShape& shape, int most) {
  return kernels::gemm_proposals(dense_problem(shape), most);
}

GemmAlgorithm chosen_gemm(const GemmShape& shape) {
  const std::lock_guard lock(mutex());
  const GemmProblem problem = dense_problem(shape);
  const auto algorithm = known(problem);
  return algorithm ? *algorithm : first_proposal(problem);
}

std::string gemm_source(at::Device device, at::ScalarType dtype) {
  if (!device.is_cuda() || dtype != at::kBFloat16) return "LibTorch (no bf16 on a GPU)";
  const c10::DeviceGuard on_device(device);
  const GemmMachine here = kernels::gemm_machine();
  if (here == kGemmTableMachine) return "cuBLASLt, algorithms of src/ops/gemm_table.h";
  return concat("cuBLASLt, algorithms timed at their first use and kept for the next run (the table is for ",
                to_json(kGemmTableMachine).dump(), ", this is ", to_json(here).dump(), ")");
}

std::string gemm_name(const GemmShape& s) {
  return concat(kKindNames[static_cast<size_t>(s.kind)], " ", s.rows, " ", s.in, " ", s.out);
}

nlohmann::json gemm_record() {
  const std::lock_guard lock(mutex());
  const Choices& all = choices();
  auto algorithms = all.recorded;
  for (const auto& [name, algorithm] : all.used) algorithms[name] = algorithm;
  if (algorithms.empty()) return nlohmann::json::object();
  nlohmann::json record = {{"machine", to_json(kernels::gemm_machine())}};
  for (const auto& [name, algorithm] : algorithms) record["algorithms"][name] = algorithm;
  return record;
}

size_t gemms_used() {
  const std::lock_guard lock(mutex());
  return choices().used.size();
}

void use_gemm_record(const nlohmann::json& record) {
  if (record.empty()) return;
  const nlohmann::json here = to_json(kernels::gemm_machine());
  if (record.at("machine") != here) {
    log_warning(concat("matrix products were done by ", record.at("machine").dump(), ", here is ",
                       here.dump(),
                       ": their results may differ in the last bit from those of an unbroken run"));
    return;
  }
  const std::lock_guard lock(mutex());
  choices().of_problem.clear();
  choices().used.clear();
  choices().recorded = record.at("algorithms").get<std::map<std::string, GemmAlgorithm>>();
}

}  // namespace transxssm::ops
