#include "model/sampler.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/sort.h>

namespace transxssm {

at::Tensor sample(const at::Tensor& logits_bv, const SamplingOptions& options, const at::Tensor& uniforms_b) {
  if (options.temperature == 0) return logits_bv.argmax(-1);
  const int64_t vocabulary = logits_bv.size(1);
  const int64_t kept = options.top_k > 0 ? std::min(options.top_k, vocabulary) : vocabulary;
  const auto [sorted, ids] = at::sort(logits_bv, /*stable=*/true, /*dim=*/-1, /*descending=*/true);
  const at::Tensor logits = sorted.narrow(1, 0, kept).to(at::kDouble);
  // Relative to the most likely: its weight is 1.
  const at::Tensor cumulative = ((logits - logits.narrow(1, 0, 1)) / options.temperature).exp_().cumsum(-1);
  const at::Tensor wanted = cumulative.narrow(1, kept - 1, 1) * options.top_p;
  const at::Tensor last = (cumulative < wanted).sum(-1, /*keepdim=*/true).clamp_max_(kept - 1);
  const at::Tensor target = uniforms_b.unsqueeze(1) * cumulative.gather(1, last);
  const at::Tensor drawn = (cumulative <= target).sum(-1, /*keepdim=*/true).minimum(last);
  return ids.gather(1, drawn).squeeze(1);
}

}  // namespace transxssm
