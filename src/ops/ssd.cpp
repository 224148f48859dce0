#include "ops/ssd.h"

#include <algorithm>

#include "core/check.h"
#include "ops/check_tensor.h"
#include "ops/reference/ssd.h"
#include "ops/ssd_checks.h"
#include "ops/ssd_kernel.h"

namespace transxssm::ops {

SsdResult ssd(const SsdDims& dims, const at::Tensor& packed_btw, const ParameterPtr& a_log_h,
              const ParameterPtr& dt_bias_h, const ParameterPtr& d_skip_h, const RopeTable* rope,
              const Documents& documents, const std::optional<at::Tensor>& initial_state_bhpn) {
  check_documents(documents, packed_btw);
  expect(packed_btw.numel() > 0, concat("ssd packed: expected at least one token, got ", packed_btw.sizes()));
  expect(dims.chunk_size > 0, concat("ssd: expected a positive chunk size, got ", dims.chunk_size));
  check_packed(dims, packed_btw);
  check_parameters(dims, packed_btw, a_log_h, dt_bias_h, d_skip_h);
  // A row's tokens turn by one running position, whatever their document.
  check_rope(dims, packed_btw, rope, std::max(documents.position_end, documents.seq_len));
  if (initial_state_bhpn) check_state(dims, packed_btw, *initial_state_bhpn);

  auto call = c10::make_intrusive<reference::SsdCall>();
  call->dims = dims;
  call->a_log_h = a_log_h;
  call->dt_bias_h = dt_bias_h;
  call->d_skip_h = d_skip_h;
  if (rope) call->rope = *rope;
  call->documents = documents;
  call->has_initial_state = initial_state_bhpn.has_value();
  const bool has_kernel = !why_no_ssd_kernel(dims, packed_btw.device(), packed_btw.scalar_type());
  return has_kernel ? ssd_kernel(std::move(call), packed_btw, initial_state_bhpn)
                    : reference::ssd(call, packed_btw, initial_state_bhpn);
}

}  // namespace transxssm::ops
