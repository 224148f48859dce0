// Which implementation of the SSD scan runs.
#include "core/check.h"
#include "ops/ssd.h"
#include "ops/ssd_kernel.h"

namespace transxssm::ops {

std::string ssd_path_description(const SsdDims& dims, at::Device device, at::ScalarType dtype) {
  const char* reason = why_no_ssd_kernel(dims, device, dtype);
  return reason ? concat("chunked LibTorch (", reason, ")") : "CUDA kernels for compute capability 9.0";
}

}  // namespace transxssm::ops
