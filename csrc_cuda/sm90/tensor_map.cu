// Host side of the tensor maps: the driver describes, kernels copy.
#include <cudaTypedefs.h>

#include "csrc_cuda/common/launch.cuh"
#include "csrc_cuda/sm90/tensor_map.h"

namespace transxssm::kernels::sm90 {
namespace {

// The driver's function through the runtime, so that the program starts where there is no driver.
PFN_cuTensorMapEncodeTiled_v12000 encode_function() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  check_cuda(
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found),
      "cuTensorMapEncodeTiled");
  expect(found == cudaDriverEntryPointSuccess, "this CUDA driver has no cuTensorMapEncodeTiled");
  return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
}

}  // namespace

CUtensorMap make_tensor_map(const char* what, const TensorLayout& t) {
  static const auto encode = encode_function();
  constexpr int64_t kBytes = 2;  // of a bf16 value
  const cuuint64_t sizes[3] = {static_cast<cuuint64_t>(t.columns), static_cast<cuuint64_t>(t.rows),
                               static_cast<cuuint64_t>(t.batches)};
  const cuuint64_t strides[2] = {static_cast<cuuint64_t>(t.row_stride * kBytes),
                                 static_cast<cuuint64_t>(t.batch_stride * kBytes)};
  const cuuint32_t box[3] = {64, 64, 1};
  const cuuint32_t steps[3] = {1, 1, 1};
  CUtensorMap map;
  const CUresult status =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<void*>(t.data), sizes, strides, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  expect(status == CUDA_SUCCESS, concat(what, ": no tensor map for [", t.batches, ", ", t.rows, ", ",
                                        t.columns, "] with strides ", t.batch_stride, ", ", t.row_stride,
                                        " at ", t.data, " (CUDA error ", static_cast<int>(status), ")"));
  return map;
}

}  // namespace transxssm::kernels::sm90
