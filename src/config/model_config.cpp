// The mixer of each layer.
#include "config/model_config.h"

#include <algorithm>

namespace transxssm {

std::vector<MixerKind> layer_mixers(const ModelConfig& config) {
  const LayersConfig& layers = config.layers;
  const auto is_attention = [&](int64_t i) {
    if (layers.pattern.empty()) return i % layers.attention_period == layers.attention_offset;
    return layers.pattern[static_cast<size_t>(i) % layers.pattern.size()] == 'A';
  };
  std::vector<MixerKind> mixers;
  for (int64_t i = 0; i < config.num_layers; ++i) {
    mixers.push_back(is_attention(i) ? MixerKind::attention : MixerKind::ssd);
  }
  return mixers;
}

bool has_mixer(const ModelConfig& config, MixerKind kind) {
  const auto mixers = layer_mixers(config);
  return std::find(mixers.begin(), mixers.end(), kind) != mixers.end();
}

}  // namespace transxssm
