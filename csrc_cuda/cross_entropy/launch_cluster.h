// Several blocks to a row of logits, where the GPU has clusters.
#pragma once

#include "csrc_cuda/cross_entropy/params.h"

namespace transxssm::kernels {

bool has_clusters();  // the current device, and this build for it
void cross_entropy_clusters(const CrossEntropyParams& p, CUstream_st* stream);

}  // namespace transxssm::kernels
