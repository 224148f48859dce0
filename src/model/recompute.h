// Activation recompute: keep a block's input, run the block again in backward.
#pragma once

#include "model/block.h"
#include "ops/documents.h"

namespace transxssm {

// Same values and gradients as block.forward; only `in` is kept. `block` outlives the backward pass.
ops::Residual forward_with_recompute(const Block& block, const ops::Residual& in,
                                     const ops::Documents& documents);

}  // namespace transxssm
