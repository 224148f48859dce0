// Argument checks of the SSD scan and its decode step.
#include "ops/ssd.h"

#include "core/check.h"
#include "ops/accumulate_type.h"
#include "ops/check_tensor.h"
#include "ops/reference/ssd.h"
#include "ops/reference/ssd_step.h"

namespace transxssm::ops {
namespace {

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

}  // namespace

SsdResult ssd(const SsdDims& dims, const at::Tensor& packed_btw, const ParameterPtr& a_log_h,
              const ParameterPtr& dt_bias_h, const ParameterPtr& d_skip_h, const RopeTable* rope,
              const Documents& documents, const std::optional<at::Tensor>& initial_state_bhpn) {
  expect_shape("ssd packed", packed_btw, {documents.batch, documents.seq_len, -1});
  expect(packed_btw.numel() > 0, "ssd packed: expected at least one token");
  expect(dims.chunk_size > 0, concat("ssd: expected a positive chunk size, got ", dims.chunk_size));
  const at::ScalarType acc = accumulate_type(packed_btw);
  check_dims(dims, packed_btw);
  check_parameters(dims, acc, a_log_h, dt_bias_h, d_skip_h);
  check_rope(dims, rope);
  if (initial_state_bhpn) check_state(dims, documents.batch, acc, *initial_state_bhpn);

  auto call = c10::make_intrusive<reference::SsdCall>();
  call->dims = dims;
  call->a_log_h = a_log_h;
  call->dt_bias_h = dt_bias_h;
  call->d_skip_h = d_skip_h;
  if (rope) call->rope = *rope;
  call->documents = documents;
  call->has_initial_state = initial_state_bhpn.has_value();
  return reference::ssd(std::move(call), packed_btw, initial_state_bhpn);
}

at::Tensor ssd_step(const SsdDims& dims, const at::Tensor& packed_bw, const ParameterPtr& a_log_h,
                    const ParameterPtr& dt_bias_h, const ParameterPtr& d_skip_h, const RopeTable* rope,
                    const at::Tensor& positions_b, at::Tensor& state_bhpn) {
  expect_shape("ssd_step packed", packed_bw, {-1, -1});
  const at::ScalarType acc = accumulate_type(packed_bw);
  check_dims(dims, packed_bw);
  check_parameters(dims, acc, a_log_h, dt_bias_h, d_skip_h);
  check_rope(dims, rope);
  expect_shape("ssd_step positions", positions_b, {packed_bw.size(0)});
  check_state(dims, packed_bw.size(0), acc, state_bhpn);
  return reference::ssd_step(dims, packed_bw, a_log_h, dt_bias_h, d_skip_h, rope, positions_b, state_bhpn);
}

}  // namespace transxssm::ops
