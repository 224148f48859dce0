#include "csrc_cuda/attention/graph_cudnn.h"

#include <cmath>
#include <memory>

#include "core/check.h"

namespace transxssm::kernels {
namespace {

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

// Makes the tensors of one call. [documents, heads, tokens, width] throughout; documents begin where the
// offsets say, in values; rows begin one after another.
class Tensors {
 public:
  Tensors(const AttentionCall& call, fe::graph::Graph& graph) : call_(call), graph_(graph) {
    if (call.rows) return;
    lengths = index(kLengths, call.capacity);
    packed_offsets_ = index(kPackedOffsets, call.capacity + 1);
    out_offsets_ = index(kOutOffsets, call.capacity + 1);
    // A graph has no tensors that it does not use: cuDNN's frontend would take their names for its own.
    if (call.pass != AttentionPass::inference) head_offsets_ = index(kHeadOffsets, call.capacity + 1);
    if (call.pass == AttentionPass::backward && call.key_gradient_row != call.packed_row)
      key_gradient_offsets_ = index(kKeyGradientOffsets, call.capacity + 1);
  }

  Tensor packed(AttentionTensor name, int heads) { return packed(make(name), heads); }
  Tensor packed(const Tensor& t, int heads) { return lay_out(t, heads, call_.packed_row, packed_offsets_); }
  Tensor like_out(AttentionTensor name) { return like_out(make(name)); }
  Tensor like_out(const Tensor& t) { return lay_out(t, call_.heads, call_.out_row, out_offsets_); }
  Tensor key_gradient(const Tensor& t) {
    return lay_out(t, call_.kv_heads, call_.key_gradient_row,
                   key_gradient_offsets_ ? key_gradient_offsets_ : packed_offsets_);
  }
  // Of rows [capacity, heads, longest] without gaps: cuDNN reads no other.
  Tensor log_sum_exp(const Tensor& t) {
    const int64_t head = call_.rows ? call_.longest : 1, token = call_.rows ? 1 : call_.log_sum_exp_row;
    t->set_data_type(fe::DataType_t::FLOAT)
        .set_dim({call_.capacity, call_.heads, call_.longest, 1})
        .set_stride({call_.longest * call_.log_sum_exp_row, head, token, 1});
    if (head_offsets_) t->set_ragged_offset(head_offsets_);
    return t;
  }
  Tensor make(AttentionTensor name) { return graph_.tensor(fe::graph::Tensor_attributes().set_uid(name)); }

  Tensor lengths;  // null for rows

 private:
  Tensor index(AttentionTensor name, int64_t count) {
    return graph_.tensor(fe::graph::Tensor_attributes()
                             .set_uid(name)
                             .set_dim({count, 1, 1, 1})
                             .set_stride({1, 1, 1, 1})
                             .set_data_type(fe::DataType_t::INT32));
  }
  Tensor lay_out(const Tensor& t, int heads, int64_t row, const Tensor& offsets) {
    t->set_dim({call_.capacity, heads, call_.longest, call_.width})
        .set_stride({call_.longest * row, call_.width, row, 1});
    if (offsets) t->set_ragged_offset(offsets);
    return t;
  }

  const AttentionCall& call_;
  fe::graph::Graph& graph_;
  Tensor packed_offsets_, out_offsets_, head_offsets_, key_gradient_offsets_;
};

void name_output(const Tensor& t, AttentionTensor name) { t->set_output(true).set_uid(name); }

float score_scale(const AttentionCall& call) { return 1 / std::sqrt(static_cast<float>(call.width)); }

void add_forward(const AttentionCall& call, fe::graph::Graph& graph) {
  Tensors tensors(call, graph);
  auto options = fe::graph::SDPA_attributes()
                     .set_name("attention")
                     .set_attn_scale(score_scale(call))
                     .set_causal_mask(true)
                     .set_generate_stats(call.pass == AttentionPass::forward);
  if (!call.rows)
    options.set_padding_mask(true).set_seq_len_q(tensors.lengths).set_seq_len_kv(tensors.lengths);
  const auto [out, log_sum_exp] =
      graph.sdpa(tensors.packed(kQuery, call.heads), tensors.packed(kKey, call.kv_heads),
                 tensors.packed(kValue, call.kv_heads), options);
  name_output(tensors.like_out(out), kOut);
  if (log_sum_exp) name_output(tensors.log_sum_exp(log_sum_exp), kLogSumExp);
}

void add_backward(const AttentionCall& call, fe::graph::Graph& graph) {
  Tensors tensors(call, graph);
  auto options = fe::graph::SDPA_backward_attributes()
                     .set_name("attention_backward")
                     .set_attn_scale(score_scale(call))
                     .set_causal_mask(true)
                     .set_deterministic_algorithm(call.deterministic);
  if (!call.rows)
    options.set_padding_mask(true)
        .set_seq_len_q(tensors.lengths)
        .set_seq_len_kv(tensors.lengths)
        .set_max_total_seq_len_q(call.total_tokens)
        .set_max_total_seq_len_kv(call.total_tokens);
  const auto [d_query, d_key, d_value] =
      graph.sdpa_backward(tensors.packed(kQuery, call.heads), tensors.packed(kKey, call.kv_heads),
                          tensors.packed(kValue, call.kv_heads), tensors.like_out(kOut),
                          tensors.like_out(kDOut), tensors.log_sum_exp(tensors.make(kLogSumExp)), options);
  name_output(tensors.packed(d_query, call.heads), kDQuery);
  name_output(tensors.key_gradient(d_key), kDKey);
  name_output(tensors.key_gradient(d_value), kDValue);
}

}  // namespace

void check_cudnn(const fe::error_t& error, const char* what) {
  if (error.is_bad()) throw std::runtime_error(concat("attention by cuDNN, ", what, ": ", error.err_msg));
}

void build_attention_plan(const AttentionCall& call, cudnnHandle_t handle, AttentionPlan& plan) {
  fe::graph::Graph& graph = plan.graph;
  graph.set_io_data_type(fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  call.pass == AttentionPass::backward ? add_backward(call, graph) : add_forward(call, graph);
  check_cudnn(graph.validate(), "arguments");
  check_cudnn(graph.build_operation_graph(handle), "operation graph");
  check_cudnn(graph.create_execution_plans({fe::HeurMode_t::A}), "choice of a plan");
  check_cudnn(graph.check_support(), "support");
  check_cudnn(graph.build_plans(), "plan");
  check_cudnn(graph.get_workspace_size(plan.workspace_bytes), "workspace");
}

}  // namespace transxssm::kernels
