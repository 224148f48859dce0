// Every launcher of the kernels, for builds without CUDA: same symbols, one message.
#include "core/check.h"
#include "csrc_cuda/adamw/params.h"
#include "csrc_cuda/attention/cache_fill_params.h"
#include "csrc_cuda/attention/params.h"
#include "csrc_cuda/attention/step_params.h"
#include "csrc_cuda/causal_conv1d/params.h"
#include "csrc_cuda/common/device_info.h"
#include "csrc_cuda/cross_entropy/params.h"
#include "csrc_cuda/embedding/params.h"
#include "csrc_cuda/gemm/params.h"
#include "csrc_cuda/grad_norm/params.h"
#include "csrc_cuda/progress/params.h"
#include "csrc_cuda/rms_norm/gated_params.h"
#include "csrc_cuda/rms_norm/params.h"
#include "csrc_cuda/rope/params.h"
#include "csrc_cuda/ssd/params.h"
#include "csrc_cuda/ssd/step_params.h"
#include "csrc_cuda/swiglu/params.h"

namespace transxssm::kernels {
namespace {

[[noreturn]] void no_cuda(const char* kernel) {
  throw std::runtime_error(concat(
      kernel, ": this program was built without CUDA; build it where nvcc is found, or run on the CPU"));
}

}  // namespace

CudaVersions cuda_versions() { return {}; }
std::string device_name(int) { no_cuda("device_name"); }
std::string device_uuid(int) { no_cuda("device_uuid"); }
uint64_t device_memory(int) { no_cuda("device_memory"); }
int device_capability(int) { no_cuda("device_capability"); }
int lowest_capability() { no_cuda("lowest_capability"); }
void mark_time(const TimeParams&, CUstream_st*) { no_cuda("mark_time"); }
void mark_progress(const ProgressParams&, CUstream_st*) { no_cuda("mark_progress"); }
void adamw(const AdamWParams&, CUstream_st*) { no_cuda("adamw"); }
void cross_entropy(const CrossEntropyParams&, CUstream_st*) { no_cuda("cross_entropy"); }
void cross_entropy_sum(const CrossEntropySumParams&, CUstream_st*) { no_cuda("cross_entropy_sum"); }
void causal_conv1d_forward(const CausalConv1dForwardParams&, CUstream_st*) {
  no_cuda("causal_conv1d_forward");
}
void causal_conv1d_backward(const CausalConv1dBackwardParams&, CUstream_st*) {
  no_cuda("causal_conv1d_backward");
}
size_t embedding_workspace_bytes(int64_t, int64_t, int64_t) { no_cuda("embedding_workspace_bytes"); }
void embedding_forward(const EmbeddingForwardParams&, CUstream_st*) { no_cuda("embedding_forward"); }
void embedding_backward(const EmbeddingBackwardParams&, CUstream_st*) { no_cuda("embedding_backward"); }
GemmMachine gemm_machine() { no_cuda("gemm"); }
std::vector<GemmAlgorithm> gemm_proposals(const GemmProblem&, int) { no_cuda("gemm"); }
bool gemm_accepts(const GemmProblem&, const GemmAlgorithm&) { no_cuda("gemm"); }
void gemm(const GemmParams&, CUstream_st*) { no_cuda("gemm"); }
std::optional<double> gemm_milliseconds(const GemmParams&, int, CUstream_st*) { no_cuda("gemm"); }
void sum_squares(const SumSquaresParams&, CUstream_st*) { no_cuda("sum_squares"); }
void norm_of_partial_sums(const NormOfPartialSumsParams&, CUstream_st*) { no_cuda("norm_of_partial_sums"); }
void gated_rms_norm_forward(const GatedRmsNormForwardParams&, CUstream_st*) {
  no_cuda("gated_rms_norm_forward");
}
void gated_rms_norm_backward(const GatedRmsNormBackwardParams&, CUstream_st*) {
  no_cuda("gated_rms_norm_backward");
}
void rms_norm_forward(const RmsNormForwardParams&, CUstream_st*) { no_cuda("rms_norm_forward"); }
void rms_norm_backward(const RmsNormBackwardParams&, CUstream_st*) { no_cuda("rms_norm_backward"); }
void swiglu_forward(const SwigluForwardParams&, CUstream_st*) { no_cuda("swiglu_forward"); }
void swiglu_backward(const SwigluBackwardParams&, CUstream_st*) { no_cuda("swiglu_backward"); }
void rotate_heads(const RotateHeadsParams&, CUstream_st*) { no_cuda("rotate_heads"); }
void ssd_step(const SsdStepParams&, CUstream_st*) { no_cuda("ssd_step"); }

bool attention_has_kernels() { return false; }
int64_t attention_table_words(const AttentionShape&, AttentionPass) { no_cuda("attention_table_words"); }
int64_t attention_workspace_bytes(const AttentionShape&, AttentionPass) {
  no_cuda("attention_workspace_bytes");
}
void prepare_attention(const AttentionShape&) { no_cuda("prepare_attention"); }
void make_attention_tables(const AttentionTablesParams&, CUstream_st*) { no_cuda("make_attention_tables"); }
void attention_forward(const AttentionForwardParams&, CUstream_st*) { no_cuda("attention_forward"); }
void attention_backward(const AttentionBackwardParams&, CUstream_st*) { no_cuda("attention_backward"); }
void attention_step(const AttentionStepParams&, CUstream_st*) { no_cuda("attention_step"); }
void cache_fill(const CacheFillParams&, CUstream_st*) { no_cuda("cache_fill"); }

bool ssd_has_kernels() { return false; }
void ssd_carry(const SsdCarryParams&, CUstream_st*) { no_cuda("ssd_carry"); }
void ssd_forward(const SsdForwardParams&, CUstream_st*) { no_cuda("ssd_forward"); }
void ssd_backward(const SsdBackwardParams&, CUstream_st*) { no_cuda("ssd_backward"); }

}  // namespace transxssm::kernels
