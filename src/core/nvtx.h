// Named ranges of host code that Nsight Systems shows above the kernels they queue; a replayed graph is
// queued at once (docs/kernels.md).
#pragma once

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#endif

namespace transxssm {

// A range as long as the object lives. Without the CUDA toolkit's header, and outside a profiler, nothing.
class NvtxRange {
 public:
  explicit NvtxRange([[maybe_unused]] const char* name) {
#ifdef NVTX_VERSION
    nvtxRangePushA(name);
#endif
  }
  ~NvtxRange() {
#ifdef NVTX_VERSION
    nvtxRangePop();
#endif
  }
  NvtxRange(const NvtxRange&) = delete;
  NvtxRange& operator=(const NvtxRange&) = delete;
};

}  // namespace transxssm
