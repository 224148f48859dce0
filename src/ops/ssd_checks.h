// What the SSD scan and its decode step expect of their arguments (ops/ssd.h). Each check throws, with
// expected and actual.
#pragma once

#include "ops/ssd.h"

namespace transxssm::ops {

// `acc`: the accumulation type of the packed projection. `positions`: how many the table must have.
void check_dims(const SsdDims& d, const at::Tensor& packed);
void check_parameters(const SsdDims& d, at::ScalarType acc, const ParameterPtr& a_log_h,
                      const ParameterPtr& dt_bias_h, const ParameterPtr& d_skip_h);
void check_documents(const Documents& documents, const at::Tensor& packed_btw);
void check_rope(const SsdDims& d, const RopeTable* rope, int64_t positions);
void check_state(const SsdDims& d, int64_t batch, at::ScalarType acc, const at::Tensor& state);

}  // namespace transxssm::ops
