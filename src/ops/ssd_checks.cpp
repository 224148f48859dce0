#include "ops/ssd_checks.h"

#include "core/check.h"
#include "ops/accumulate_type.h"
#include "ops/check_tensor.h"

namespace transxssm::ops {

void check_packed(const SsdDims& d, const at::Tensor& packed) {
  const at::ScalarType dtype = packed.scalar_type();
  expect(dtype == at::kBFloat16 || dtype == at::kFloat || dtype == at::kDouble,
         concat("ssd packed: expected BFloat16, Float or Double, got ", dtype));
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

namespace {

void check_parameter(const char* what, const SsdDims& d, const at::Tensor& packed,
                     const ParameterPtr& parameter) {
  const at::ScalarType acc = accumulate_type(packed);
  expect(static_cast<bool>(parameter), concat(what, ": expected a parameter, got none"));
  expect_device(what, parameter->weight, packed.device());
  expect_shape(what, parameter->weight, {d.num_heads});
  expect_dtype(what, parameter->weight, acc);
  const at::Tensor& grad = parameter->grad;
  if (!grad.defined()) return;
  const std::string gradient = concat("gradient of ", what);
  expect_shape(gradient.c_str(), grad, {d.num_heads});
  expect_dtype(gradient.c_str(), grad, acc);
  expect_device(gradient.c_str(), grad, parameter->weight.device());
  expect_contiguous(gradient.c_str(), grad);
}

}  // namespace

void check_parameters(const SsdDims& d, const at::Tensor& packed, const ParameterPtr& a_log_h,
                      const ParameterPtr& dt_bias_h, const ParameterPtr& d_skip_h) {
  check_parameter("ssd A_log", d, packed, a_log_h);
  check_parameter("ssd dt_bias", d, packed, dt_bias_h);
  if (d_skip_h) check_parameter("ssd D", d, packed, d_skip_h);
}

void check_documents(const Documents& documents, const at::Tensor& packed_btw) {
  expect_shape("ssd packed", packed_btw, {documents.batch, documents.seq_len, -1});
  expect_shape("ssd document positions", documents.positions, {documents.batch, documents.seq_len});
  expect_dtype("ssd document positions", documents.positions, at::kLong);
  expect_device("ssd document positions", documents.positions, packed_btw.device());
  expect_shape("ssd document ids", documents.ids, {documents.batch, documents.seq_len});
  expect_dtype("ssd document ids", documents.ids, at::kInt);
  expect_device("ssd document ids", documents.ids, packed_btw.device());
  const at::Tensor& offsets = documents.offsets;
  expect_shape("ssd document offsets", offsets, {-1});
  expect_dtype("ssd document offsets", offsets, at::kInt);
  expect_device("ssd document offsets", offsets, packed_btw.device());
  expect_contiguous("ssd document offsets", offsets);
  if (offsets.is_cpu())
    check_document_offsets({offsets.const_data_ptr<int32_t>(), static_cast<size_t>(offsets.numel())},
                           documents.batch, documents.seq_len);
}

void check_rope(const SsdDims& d, const at::Tensor& packed, const RopeTable* rope, int64_t positions) {
  if (!rope) return;
  expect(d.state_dim % 2 == 0, concat("ssd: expected an even state width with rope, got ", d.state_dim));
  expect_shape("ssd rope table", rope->cos, {-1, d.state_dim / 2});
  expect_shape("ssd rope table", rope->sin, {rope->cos.size(0), d.state_dim / 2});
  expect(rope->cos.size(0) >= positions,
         concat("ssd rope table: expected at least ", positions, " positions, got ", rope->cos.size(0)));
  for (const at::Tensor& table : {rope->cos, rope->sin}) {
    expect_device("ssd rope table", table, packed.device());
    if (table.scalar_type() != at::kFloat)  // a model's table, which an f64 gradient check reads as well
      expect_dtype("ssd rope table", table, accumulate_type(packed));
  }
}

void check_state(const SsdDims& d, const at::Tensor& packed, const at::Tensor& state) {
  expect_shape("ssd state", state, {packed.size(0), d.num_heads, d.head_dim, d.state_dim});
  expect_dtype("ssd state", state, accumulate_type(packed));
  expect_device("ssd state", state, packed.device());
}

}  // namespace transxssm::ops
