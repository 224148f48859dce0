// Products with a parameter through cuBLASLt, bf16 operands and sums in f32, by a chosen algorithm.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

struct CUstream_st;  // what cudaStream_t points to

namespace transxssm::kernels {

// With x [rows, in], W [out, in], y and dy [rows, out], row-major:
enum class GemmKind {
  forward,          // y = x Wᵀ              left x, right W, result y bf16
  input_gradient,   // dx = dy W             left dy, right W, result dx bf16
  weight_gradient,  // grad = dyᵀ x          left dy, right x, result grad f32
};

// What becomes of the values that lie where the result goes.
enum class GemmResult { replaced, added_to };

struct GemmShape {
  GemmKind kind = GemmKind::forward;
  int64_t rows = 0, in = 0, out = 0;
  auto operator<=>(const GemmShape&) const = default;
};

// Elements from one row of a matrix to the next.
struct GemmStrides {
  int64_t left = 0, right = 0, result = 0;
  auto operator<=>(const GemmStrides&) const = default;
};

// A product as cuBLASLt sees it; what an algorithm is proposed for.
struct GemmProblem {
  GemmShape shape;
  GemmStrides strides;
  int64_t alignment = 0;  // all matrices begin at a multiple of this many bytes, a power of two
  size_t workspace_bytes = 0;
  auto operator<=>(const GemmProblem&) const = default;
};

// cuBLASLt's own description of an algorithm, which means something to the same version of it alone.
using GemmAlgorithm = std::array<uint64_t, 8>;

struct GemmParams {
  GemmProblem problem;
  GemmResult old = GemmResult::replaced;
  GemmAlgorithm algorithm;
  const void* left;
  const void* right;
  void* result;
  void* workspace;  // [workspace_bytes], 256-byte aligned
};

// What an algorithm's description and its speed depend on.
struct GemmMachine {
  size_t library = 0;  // cuBLASLt's version
  int capability = 0;  // 90 for 9.0
  int multiprocessors = 0;
  auto operator<=>(const GemmMachine&) const = default;
};
GemmMachine gemm_machine();  // of the current device

// At most `most` algorithms, cuBLASLt's favourite first. Only those that give the same bits in every run and
// never round a partial sum to bf16.
std::vector<GemmAlgorithm> gemm_proposals(const GemmProblem& problem, int most);

// Whether cuBLASLt would run it for this problem on the current device.
bool gemm_accepts(const GemmProblem& problem, const GemmAlgorithm& algorithm);

void gemm(const GemmParams& p, CUstream_st* stream);

// Device time of one run, the mean of `repeats` after one more; waits for the device. None where the stream
// is being captured.
std::optional<double> gemm_milliseconds(const GemmParams& p, int repeats, CUstream_st* stream);

}  // namespace transxssm::kernels
