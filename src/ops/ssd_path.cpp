// Which implementation of the SSD scan runs.
#include "core/check.h"
#include "ops/ssd.h"

namespace transxssm::ops {

std::string ssd_path_description(const SsdDims& dims, at::Device device, at::ScalarType) {
  const char* reason = dims.path == SsdPath::reference ? "kernels.ssd is reference"
                       : device.is_cpu()               ? "the CPU has no other"
                                                       : "this build has no CUDA kernel of the scan";
  return concat("chunked LibTorch (", reason, ")");
}

}  // namespace transxssm::ops
