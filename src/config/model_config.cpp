// The mixer of each layer.
#include "config/model_config.h"

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

}  // namespace transxssm
