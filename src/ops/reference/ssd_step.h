// One token of the SSD recurrence in plain ATen.
#pragma once

#include "ops/ssd.h"

namespace transxssm::ops::reference {

// ops/ssd.h, arguments already checked.
at::Tensor ssd_step(const SsdDims& dims, const at::Tensor& packed_bw, const ParameterPtr& a_log_h,
                    const ParameterPtr& dt_bias_h, const ParameterPtr& d_skip_h, const RopeTable* rope,
                    const at::Tensor& positions_b, at::Tensor& state_bhpn);

}  // namespace transxssm::ops::reference
