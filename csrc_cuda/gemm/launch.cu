// Products through cuBLASLt, host side.
#include <cstring>
#include <memory>
#include <mutex>

#include <cublasLt.h>

#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/gemm/params.h"

namespace transxssm::kernels {
namespace {

static_assert(sizeof(GemmAlgorithm) == sizeof(cublasLtMatmulAlgo_t));

void check_cublas(cublasStatus_t status, const char* what, const GemmShape& s) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw std::runtime_error(concat("cuBLASLt, ", what, " of a product of ", s.rows, " rows, ", s.in, " -> ",
                                    s.out, ": ", cublasLtGetStatusString(status)));
}

// One per device for good; it may be used from several threads.
cublasLtHandle_t handle() {
  constexpr int kMostDevices = 64;
  static cublasLtHandle_t handles[kMostDevices] = {};
  static std::once_flag made[kMostDevices];
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cublasLtCreate");
  expect(device < kMostDevices, concat("gemm: device ", device, " is beyond ", kMostDevices));
  std::call_once(made[device],
                 [&] { check_cublas(cublasLtCreate(&handles[device]), "cublasLtCreate", GemmShape{}); });
  return handles[device];
}

// cuBLASLt's matrices are column-major, so ours are their transposes and the operands change places:
// resultᵀ = op(A) op(B) with A = rightᵀ, B = leftᵀ as they lie in memory.
struct Descriptors {
  cublasLtMatmulDescOpaque_t product;
  cublasLtMatrixLayoutOpaque_t a, b, c;

  explicit Descriptors(const GemmProblem& p) {
    const GemmShape& s = p.shape;
    const bool forward = s.kind == GemmKind::forward;
    const bool weight_gradient = s.kind == GemmKind::weight_gradient;
    check_cublas(cublasLtMatmulDescInit(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "description", s);
    transpose(CUBLASLT_MATMUL_DESC_TRANSA, forward, s);
    transpose(CUBLASLT_MATMUL_DESC_TRANSB, weight_gradient, s);
    layout(a, CUDA_R_16BF, s.in, weight_gradient ? s.rows : s.out, p.strides.right, s);
    layout(b, CUDA_R_16BF, forward ? s.in : s.out, s.rows, p.strides.left, s);
    layout(c, weight_gradient ? CUDA_R_32F : CUDA_R_16BF, forward ? s.out : s.in,
           weight_gradient ? s.out : s.rows, p.strides.result, s);
  }

 private:
  void transpose(cublasLtMatmulDescAttributes_t which, bool yes, const GemmShape& s) {
    const cublasOperation_t op = yes ? CUBLAS_OP_T : CUBLAS_OP_N;
    check_cublas(cublasLtMatmulDescSetAttribute(&product, which, &op, sizeof op), "transposition", s);
  }
  static void layout(cublasLtMatrixLayoutOpaque_t& matrix, cudaDataType_t type, int64_t rows, int64_t columns,
                     int64_t stride, const GemmShape& s) {
    check_cublas(cublasLtMatrixLayoutInit(&matrix, type, static_cast<uint64_t>(rows),
                                          static_cast<uint64_t>(columns), stride),
                 "layout", s);
  }
};

struct Preference {
  cublasLtMatmulPreferenceOpaque_t opaque;

  explicit Preference(const GemmProblem& p) {
    check_cublas(cublasLtMatmulPreferenceInit(&opaque), "preference", p.shape);
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, p.workspace_bytes, p.shape);
    // Parts of a split sum are added in f32, not in the type of the result.
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE}, p.shape);
    for (const auto matrix :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      set(matrix, static_cast<uint32_t>(p.alignment), p.shape);
  }

 private:
  template <class T>
  void set(cublasLtMatmulPreferenceAttributes_t which, T value, const GemmShape& s) {
    check_cublas(cublasLtMatmulPreferenceSetAttribute(&opaque, which, &value, sizeof value), "preference", s);
  }
};

struct Event {
  cudaEvent_t event = nullptr;
  Event() { check_cuda(cudaEventCreate(&event), "gemm"); }
  ~Event() { cudaEventDestroy(event); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
};

cublasLtMatmulAlgo_t to_cublas(const GemmAlgorithm& algorithm) {
  cublasLtMatmulAlgo_t out;
  std::memcpy(&out, algorithm.data(), sizeof out);
  return out;
}

}  // namespace

GemmMachine gemm_machine() {
  int device = 0, major = 0, minor = 0, multiprocessors = 0;
  check_cuda(cudaGetDevice(&device), "gemm");
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "gemm");
  check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "gemm");
  check_cuda(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), "gemm");
  return {cublasLtGetVersion(), 10 * major + minor, multiprocessors};
}

std::vector<GemmAlgorithm> gemm_proposals(const GemmProblem& problem, int most) {
  Descriptors d(problem);
  Preference preference(problem);
  const auto found = std::make_unique<cublasLtMatmulHeuristicResult_t[]>(static_cast<size_t>(most));
  int count = 0;
  check_cublas(cublasLtMatmulAlgoGetHeuristic(handle(), &d.product, &d.a, &d.b, &d.c, &d.c,
                                              &preference.opaque, most, found.get(), &count),
               "choice", problem.shape);
  std::vector<GemmAlgorithm> proposals;
  for (int i = 0; i < count; ++i) {
    const auto& result = found[i];
    if (result.state != CUBLAS_STATUS_SUCCESS) continue;
    GemmAlgorithm proposal;
    std::memcpy(proposal.data(), &result.algo, sizeof proposal);
    proposals.push_back(proposal);
  }
  return proposals;
}

bool gemm_accepts(const GemmProblem& problem, const GemmAlgorithm& algorithm) {
  Descriptors d(problem);
  const cublasLtMatmulAlgo_t algo = to_cublas(algorithm);
  cublasLtMatmulHeuristicResult_t result{};
  return cublasLtMatmulAlgoCheck(handle(), &d.product, &d.a, &d.b, &d.c, &d.c, &algo, &result) ==
             CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= problem.workspace_bytes;
}

void gemm(const GemmParams& p, CUstream_st* stream) {
  Descriptors d(p.problem);
  const cublasLtMatmulAlgo_t algo = to_cublas(p.algorithm);
  const float alpha = 1.f, beta = p.old == GemmResult::added_to ? 1.f : 0.f;
  check_cublas(cublasLtMatmul(handle(), &d.product, &alpha, p.right, &d.a, p.left, &d.b, &beta, p.result,
                              &d.c, p.result, &d.c, &algo, p.workspace, p.problem.workspace_bytes, stream),
               "launch", p.problem.shape);
}

std::optional<double> gemm_milliseconds(const GemmParams& p, int repeats, CUstream_st* stream) {
  cudaStreamCaptureStatus capture;
  check_cuda(cudaStreamIsCapturing(stream, &capture), "gemm");
  if (capture != cudaStreamCaptureStatusNone) return std::nullopt;
  const Event begin, end;
  gemm(p, stream);
  check_cuda(cudaEventRecord(begin.event, stream), "gemm");
  for (int i = 0; i < repeats; ++i) gemm(p, stream);
  check_cuda(cudaEventRecord(end.event, stream), "gemm");
  check_cuda(cudaEventSynchronize(end.event), "gemm");
  float ms = 0;
  check_cuda(cudaEventElapsedTime(&ms, begin.event, end.event), "gemm");
  return ms / repeats;
}

}  // namespace transxssm::kernels
