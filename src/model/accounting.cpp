#include "model/accounting.h"

#include <functional>
#include <numeric>

#include "model/hybrid_model.h"

namespace transxssm {
namespace {

int64_t product(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

}  // namespace

ParameterCounts count_parameters(const ModelConfig& config) {
  ParameterCounts counts;
  for (const auto& spec : HybridModel::parameter_specs(config))
    for (const auto& part : spec.parts) {
      counts.total += product(part.shape);
      if (spec.kind == ParameterKind::matrix) counts.matmul += product(part.shape);
    }
  const int64_t embedding = config.vocab_size * config.hidden_size;
  counts.non_embedding = counts.total - (config.tie_word_embeddings ? 1 : 2) * embedding;
  if (!config.tie_word_embeddings) counts.matmul -= embedding;  // looking a row up is no product
  return counts;
}

std::vector<std::pair<std::string, int64_t>> count_by_part(const ModelConfig& config) {
  std::vector<std::pair<std::string, int64_t>> parts{{"embedding", 0}, {"attention", 0}, {"SSD", 0},
                                                     {"MLP", 0},       {"vectors", 0},   {"head", 0}};
  const auto part_of = [](const ParameterSpec& spec) {
    const auto has = [&](const char* text) { return spec.name.find(text) != std::string::npos; };
    if (spec.kind == ParameterKind::vector) return 4;
    return has("word_embed") ? 0 : has(".attn.") ? 1 : has(".ssd.") ? 2 : has("feed_forward") ? 3 : 5;
  };
  for (const auto& spec : HybridModel::parameter_specs(config))
    for (const auto& tensor : spec.parts) parts[part_of(spec)].second += product(tensor.shape);
  std::erase_if(parts, [](const auto& part) { return part.second == 0; });
  return parts;
}

double train_flops_per_token(const ModelConfig& config, double mean_keys) {
  double flops = 6.0 * static_cast<double>(count_parameters(config).matmul);
  const auto attention_width = static_cast<double>(config.attention.num_heads * config.attention.head_dim);
  const auto ssd_width = static_cast<double>(config.ssd.num_heads * config.ssd.head_dim);
  for (const MixerKind mixer : layer_mixers(config))
    flops += mixer == MixerKind::attention ? 12.0 * attention_width * mean_keys
                                           : 12.0 * static_cast<double>(config.ssd.state_dim) * ssd_width;
  return flops;
}

}  // namespace transxssm
