// What the SSD scan and its decode step expect of their arguments (ops/ssd.h). Each check throws, with
// expected and actual.
#pragma once

#include "ops/ssd.h"

namespace transxssm::ops {

// What goes with `packed` lies on its device and has its accumulation type. `positions`: how many the table
// must have.
void check_packed(const SsdDims& d, const at::Tensor& packed);
void check_parameters(const SsdDims& d, const at::Tensor& packed, const ParameterPtr& a_log_h,
                      const ParameterPtr& dt_bias_h, const ParameterPtr& d_skip_h);
void check_documents(const Documents& documents, const at::Tensor& packed_btw);
void check_rope(const SsdDims& d, const at::Tensor& packed, const RopeTable* rope, int64_t positions);
void check_state(const SsdDims& d, const at::Tensor& packed, const at::Tensor& state);

}  // namespace transxssm::ops
