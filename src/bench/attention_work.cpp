#include "bench/attention_work.h"

#include <memory>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "bench/input_sets.h"
#include "bench/random_documents.h"
#include "data/packing.h"
#include "model/rope.h"
#include "ops/attention.h"

namespace transxssm::bench {
namespace {

at::TensorOptions bf16() { return at::TensorOptions(at::kCUDA).dtype(at::kBFloat16); }

ops::AttentionDims dims_of(const AttentionShape& s) { return {s.heads, s.kv_heads, s.width}; }

double value_bytes(const AttentionShape& s, int64_t heads) {
  return 2.0 * static_cast<double>(s.batch * s.tokens * heads * s.width);
}

size_t sets_of(const AttentionShape& s) { return input_sets(value_bytes(s, s.heads + 2 * s.kv_heads)); }

// Hands a leaf to an operator as a layer's projection comes to it: a result of the graph whose memory may be
// overwritten.
struct GiveAway : torch::autograd::Function<GiveAway> {
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& x) {
    return x.variable_data();
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                 torch::autograd::variable_list grads) {
    return grads;
  }
};

// Empty documents at the end, as training's batches have them.
at::Tensor padded_offsets(const AttentionShape& s) {
  std::vector<int32_t> offsets = document_offsets(s.batch, s.tokens, s.documents);
  const auto packing = s.documents ? Packing::isolated : Packing::concatenated;
  const int64_t capacity =
      document_capacity(s.batch, s.tokens, packing, static_cast<int64_t>(offsets.size()) - 1);
  offsets.resize(static_cast<size_t>(capacity) + 1, offsets.back());
  return at::tensor(offsets, at::TensorOptions(at::kInt)).to(at::kCUDA);
}

struct OurInputs {
  ops::AttentionDims dims;
  ops::RopeTable rope;
  ops::Documents documents;
  std::vector<at::Tensor> packed_btw, dy_btw;

  explicit OurInputs(const AttentionShape& s)
      : dims(dims_of(s)),
        rope(make_rope_table({}, s.width, s.tokens, at::kCUDA)),
        documents(ops::make_documents(padded_offsets(s), s.batch, s.tokens)) {
    for (size_t set = 0; set < sets_of(s); ++set) {
      packed_btw.push_back(at::randn({s.batch, s.tokens, ops::attention_packed_columns(dims)}, bf16())
                               .set_requires_grad(true));
      dy_btw.push_back(at::randn({s.batch, s.tokens, s.heads * s.width}, bf16()));
    }
  }

  at::Tensor attend(const at::Tensor& given, bool deterministic) const {
    return ops::attention(dims, given, &rope, documents, deterministic);
  }
};

struct CudnnInputs {
  std::vector<at::Tensor> qkv;  // three leaves per set, [B, H or G, T, P] each, views of one packed tensor
  std::vector<at::Tensor> dy;

  explicit CudnnInputs(const AttentionShape& s) {
    for (size_t set = 0; set < sets_of(s); ++set) {
      const at::Tensor packed = at::randn({s.batch, s.tokens, s.heads + 2 * s.kv_heads, s.width}, bf16());
      int64_t first = 0;
      for (const int64_t heads : {s.heads, s.kv_heads, s.kv_heads}) {
        qkv.push_back(packed.narrow(2, first, heads).transpose(1, 2).detach().set_requires_grad(true));
        first += heads;
      }
      dy.push_back(at::randn({s.batch, s.tokens, s.heads, s.width}, bf16()).transpose(1, 2));
    }
  }

  at::Tensor attend(size_t set, bool for_backward) const {
    return std::get<0>(at::_scaled_dot_product_cudnn_attention(qkv[3 * set], qkv[3 * set + 1],
                                                               qkv[3 * set + 2], /*attn_bias=*/{},
                                                               /*compute_log_sumexp=*/for_backward,
                                                               /*dropout_p=*/0.0, /*is_causal=*/true));
  }
};

}  // namespace

Workload attention_work(const AttentionShape& shape, Pass pass, bool deterministic) {
  const auto in = std::make_shared<OurInputs>(shape);
  const size_t sets = in->packed_btw.size();
  if (pass == Pass::forward)
    return {sets, [in, deterministic](size_t set) {
              const at::NoGradGuard no_grad;
              in->attend(in->packed_btw[set].detach(), deterministic);
            }};
  return {sets, [in, deterministic](size_t set) {
            const at::Tensor& leaf = in->packed_btw[set];
            torch::autograd::grad({in->attend(GiveAway::apply(leaf), deterministic)}, {leaf},
                                  {in->dy_btw[set]});
          }};
}

Workload cudnn_attention_work(const AttentionShape& shape, Pass pass) {
  const auto in = std::make_shared<CudnnInputs>(shape);
  const size_t sets = in->dy.size();
  if (pass == Pass::forward)
    return {sets, [in](size_t set) {
              const at::NoGradGuard no_grad;
              in->attend(set, false);
            }};
  return {sets, [in](size_t set) {
            const auto& leaves = in->qkv;
            torch::autograd::grad({in->attend(set, true)},
                                  {leaves[3 * set], leaves[3 * set + 1], leaves[3 * set + 2]}, {in->dy[set]});
          }};
}

int64_t document_count(const AttentionShape& s) {
  return static_cast<int64_t>(document_offsets(s.batch, s.tokens, s.documents).size()) - 1;
}

std::string attention_path(bool deterministic) {
  return ops::attention_path_description({1, 1, 128}, at::Device(at::kCUDA, 0), at::kBFloat16, deterministic);
}

double attention_flops(const AttentionShape& s, Pass pass) {
  double pairs = 0;
  const auto offsets = document_offsets(s.batch, s.tokens, s.documents);
  for (size_t d = 0; d + 1 < offsets.size(); ++d) {
    const double n = offsets[d + 1] - offsets[d];
    pairs += n * (n + 1) / 2;
  }
  const double product = 2 * pairs * static_cast<double>(s.heads * s.width);
  return product * (pass == Pass::forward ? 2 : 2 + 5);
}

double attention_bytes(const AttentionShape& s, Pass pass) {
  const double packed = value_bytes(s, s.heads + 2 * s.kv_heads), out = value_bytes(s, s.heads);
  return pass == Pass::forward ? packed + out : (packed + out) + (2 * packed + 2 * out);
}

}  // namespace transxssm::bench
