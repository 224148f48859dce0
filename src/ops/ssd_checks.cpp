#include "ops/ssd_checks.h"

#include "core/check.h"
#include "ops/check_tensor.h"

namespace transxssm::ops {

void check_dims(const SsdDims& d, const at::Tensor& packed) {
  expect(d.num_heads > 0 && d.head_dim > 0 && d.state_dim > 0 && d.num_groups > 0,
         concat("ssd: expected positive dimensions, got ", d.num_heads, " heads of width ", d.head_dim,
                ", state width ", d.state_dim, ", ", d.num_groups, " groups"));
  expect(d.num_heads % d.num_groups == 0,
         concat("ssd: expected groups that divide ", d.num_heads, " heads, got ", d.num_groups));
  expect(packed.size(-1) >= ssd_packed_columns(d) && packed.stride(-1) == 1,
         concat("ssd packed: expected at least ", ssd_packed_columns(d),
                " columns, the last dimension contiguous, got ", packed.size(-1), " with stride ",
                packed.stride(-1)));
}

void check_parameters(const SsdDims& d, at::ScalarType acc, const ParameterPtr& a_log_h,
                      const ParameterPtr& dt_bias_h, const ParameterPtr& d_skip_h) {
  expect_shape("ssd A_log", a_log_h->weight, {d.num_heads});
  expect_dtype("ssd A_log", a_log_h->weight, acc);
  expect_shape("ssd dt_bias", dt_bias_h->weight, {d.num_heads});
  expect_dtype("ssd dt_bias", dt_bias_h->weight, acc);
  if (!d_skip_h) return;
  expect_shape("ssd D", d_skip_h->weight, {d.num_heads});
  expect_dtype("ssd D", d_skip_h->weight, acc);
}

void check_rope(const SsdDims& d, const RopeTable* rope) {
  if (!rope) return;
  expect(d.state_dim % 2 == 0, concat("ssd: expected an even state width with rope, got ", d.state_dim));
  expect_shape("ssd rope table", rope->cos, {-1, d.state_dim / 2});
  expect_shape("ssd rope table", rope->sin, {rope->cos.size(0), d.state_dim / 2});
}

void check_state(const SsdDims& d, int64_t batch, at::ScalarType acc, const at::Tensor& state) {
  expect_shape("ssd state", state, {batch, d.num_heads, d.head_dim, d.state_dim});
  expect_dtype("ssd state", state, acc);
}

}  // namespace transxssm::ops
