#include "model/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace transxssm {

int64_t Sampler::next(const at::Tensor& logits_v) {
  const auto host = logits_v.to(at::kCPU, at::kFloat).contiguous();
  const float* logits = host.const_data_ptr<float>();
  const auto vocabulary = static_cast<size_t>(host.numel());
  std::vector<int64_t> order(vocabulary);
  std::iota(order.begin(), order.end(), 0);
  // Ties by id, so that the result doesn't depend on the sort.
  const auto more_likely = [&](int64_t a, int64_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  if (options_.temperature == 0) return *std::min_element(order.begin(), order.end(), more_likely);

  const size_t kept =
      options_.top_k > 0 ? std::min<size_t>(static_cast<size_t>(options_.top_k), vocabulary) : vocabulary;
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(),
                    more_likely);
  std::vector<double> cumulative(kept);
  double total = 0;
  for (size_t i = 0; i < kept; ++i) {
    total += std::exp((static_cast<double>(logits[order[i]]) - static_cast<double>(logits[order[0]])) /
                      options_.temperature);
    cumulative[i] = total;
  }
  const auto nucleus = std::lower_bound(cumulative.begin(), cumulative.end() - 1, options_.top_p * total);
  const double target = random_.uniform(drawn_++) * *nucleus;
  return order[static_cast<size_t>(std::upper_bound(cumulative.begin(), nucleus, target) -
                                   cumulative.begin())];
}

}  // namespace transxssm
