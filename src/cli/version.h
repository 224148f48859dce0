// What this binary was made of.
#pragma once

#include <string>

#include "core/version.h"

namespace transxssm {

inline std::string version_text() {
  return std::string("transxssm ") + kCommit + "\nLibTorch " + kTorchVersion + "\nCUDA " + kCudaVersion +
         "\ncuDNN " + kCudnnVersion + "\nNCCL " + kNcclVersion;
}

}  // namespace transxssm
