#include "model/memory.h"

#include <algorithm>

#include "core/check.h"
#include "model/block.h"
#include "model/mixer.h"
#include "ops/attention_kernel.h"

namespace transxssm {
namespace {

constexpr int64_t kF32 = 4;
constexpr int64_t kSpan = 128;  // tokens between two states that the scan's kernels save

int64_t up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Rows of a packed projection: columns of its output.
int64_t columns_of(const ModelConfig& config, MixerKind mixer, const std::string& name) {
  for (const ParameterSpec& spec : block_specs(config, mixer, {}))
    if (spec.name == name) return spec.shape[0];
  throw std::runtime_error(concat("no parameter ", name));
}

// Tensors of one block, N tokens each.
class BlockTable {
 public:
  BlockTable(const ModelConfig& config, const ActivationShape& shape)
      : config_(config), shape_(shape), tokens_(shape.batch * shape.seq_len) {}

  void wide(const std::string& name, int64_t columns, const std::string& saved) {
    add(concat(name, " [N, ", columns, "]"), tokens_ * columns * shape_.element, saved);
  }
  void f32(const std::string& name, int64_t per_token, const std::string& saved) {
    add(concat(name, " [N, ", per_token, "] f32"), tokens_ * per_token * kF32, saved);
  }
  void add(const std::string& name, int64_t bytes, const std::string& saved) {
    kept_.push_back({name, saved, bytes});
  }

  // What a projection reads: the residual stream, and its norm unless that is rebuilt.
  void stream(const std::string& place, bool keep_norm) {
    wide("x " + place, config_.hidden_size, "residual_norm_linear");
    if (keep_norm) wide("u " + place, config_.hidden_size, "residual_norm_linear");
    f32("rstd " + place, 1, "residual_norm_linear");
  }

  // All that a block keeps whose forward pass is run again.
  void inputs() {
    wide("x before the block", config_.hidden_size, "recompute");
    wide("branch before the block", config_.hidden_size, "recompute");
  }

  void ssd_mixer() {
    const SsdConfig& c = config_.ssd;
    const int64_t inner = c.num_heads * c.head_dim, bc = c.num_groups * c.state_dim;
    const int64_t scanned = 2 * bc + inner + c.num_heads;
    const bool convolved = c.conv_width > 0;
    wide("packed C, B, X, tau" + std::string(c.gate ? ", z" : ""),
         columns_of(config_, MixerKind::ssd, "ssd.in_proj.weight"), convolved ? "causal_conv1d" : "ssd");
    if (convolved) wide("convolved C, B, X, and tau", scanned, "ssd");
    if (c.bc_norm) {
      wide("normed C and B, with X and tau", scanned, "ssd");
      f32("rstd of C and B", 2 * c.num_groups, "rms_norm");
    }
    const int64_t every = shape_.kernels.ssd ? kSpan : c.chunk_size;
    const int64_t states = shape_.batch * ((shape_.seq_len + every - 1) / every);
    add(concat("a state every ", every, " tokens [", c.num_heads, ", ", c.head_dim, ", ", c.state_dim, "]"),
        states * inner * c.state_dim * (shape_.kernels.ssd ? shape_.element : kF32), "ssd");
    wide("y", inner, c.gate ? "gated_rms_norm" : "linear");
    if (c.gate) {
      wide("gated y", inner, "linear");
      f32("rstd of the gate's norm", 1, "gated_rms_norm");
    }
  }

  void attention_mixer() {
    const AttentionConfig& c = config_.attention;
    const int64_t columns = columns_of(config_, MixerKind::attention, "attn.qkv_proj.weight");
    wide(c.qk_norm ? "packed Q, K, V" : "packed rotated Q, K, V", columns,
         c.qk_norm ? "rms_norm" : "attention");
    if (c.qk_norm) {
      wide("normed, rotated Q, K, V", columns, "attention");
      f32("rstd of Q and K", c.num_heads + c.num_kv_heads, "rms_norm");
    }
    wide("out", c.num_heads * c.head_dim, "attention, linear");
    f32("log-sum-exp", c.num_heads, "attention");
  }

  void mlp() { wide("gate and up", 2 * config_.intermediate_size, "swiglu_linear"); }

  std::vector<KeptTensor> take() { return std::move(kept_); }

 private:
  const ModelConfig& config_;
  const ActivationShape& shape_;
  int64_t tokens_;
  std::vector<KeptTensor> kept_;
};

int64_t sum(const std::vector<KeptTensor>& kept) {
  int64_t bytes = 0;
  for (const KeptTensor& tensor : kept) bytes += tensor.bytes;
  return bytes;
}

// Of the backward pass.
int64_t attention_workspace(const ModelConfig& config, const ActivationShape& shape) {
  const ops::AttentionDims dims = attention_dims(config.attention, ops::AttentionPath::automatic);
  if (shape.kernels.attention)
    return ops::attention_kernel_workspace(
        dims, {shape.batch, shape.seq_len, std::max(shape.batch, shape.documents), shape.deterministic});
  // LibTorch's paths: Q and K rotated again, gradients of both before they are rotated back, dQ summed in
  // f32.
  const int64_t query = dims.num_heads * dims.head_dim, key = dims.num_kv_heads * dims.head_dim;
  return shape.batch * shape.seq_len * (2 * (query + key) * shape.element + query * kF32);
}

// Gradients and workspace alive while a block's widest operator runs backward.
int64_t backward_of_block(const ModelConfig& config, MixerKind mixer, const ActivationShape& shape) {
  const int64_t tokens = shape.batch * shape.seq_len;
  const int64_t stream = 3 * config.hidden_size;     // of x, of the branch, and of what the norm gave
  const int64_t mlp = 4 * config.intermediate_size;  // of gate and up, of their product, and it rebuilt
  const bool ssd = mixer == MixerKind::ssd;
  const int64_t packed = columns_of(config, mixer, ssd ? "ssd.in_proj.weight" : "attn.qkv_proj.weight");
  const int64_t inner = ssd ? config.ssd.num_heads * config.ssd.head_dim
                            : config.attention.num_heads * config.attention.head_dim;
  const int64_t sums = kF32 * (ssd ? 6 * config.ssd.num_heads : config.attention.num_heads);
  const int64_t mixed =
      tokens * ((packed + inner) * shape.element + sums) + (ssd ? 0 : attention_workspace(config, shape));
  return tokens * stream * shape.element + std::max(tokens * mlp * shape.element, mixed);
}

int64_t logits_bytes(const ModelConfig& config, const ActivationShape& shape) {
  const int64_t tokens = shape.batch * shape.seq_len;
  // As ops::cross_entropy cuts its rows: on a GPU chunks of at most 512 MiB of bf16 logits, else a few MiB.
  constexpr int64_t kMost = int64_t{512} << 20, kSmall = int64_t{16} << 20;
  return shape.kernels.cross_entropy ? std::min(kMost, up(tokens, 128) * config.vocab_size * 2) : kSmall;
}

int64_t loss_bytes(const ModelConfig& config, const ActivationShape& shape) {
  return 2 * shape.batch * shape.seq_len * config.hidden_size * shape.element + logits_bytes(config, shape);
}

}  // namespace

std::vector<KeptTensor> kept_by_block(const ModelConfig& config, MixerKind mixer,
                                      const ActivationShape& shape, Recompute recompute) {
  BlockTable block(config, shape);
  if (recompute == Recompute::full) {
    block.inputs();
    return block.take();
  }
  const bool keep_norms = recompute == Recompute::none;
  block.stream("before the mixer", keep_norms);
  if (mixer == MixerKind::ssd)
    block.ssd_mixer();
  else
    block.attention_mixer();
  if (config.intermediate_size > 0) {
    block.stream("before the MLP", keep_norms);
    block.mlp();
  }
  return block.take();
}

int64_t forward_memory(const ModelConfig& config, const ActivationShape& shape) {
  const int64_t stream = shape.batch * shape.seq_len * config.hidden_size * shape.element;
  int64_t worst = logits_bytes(config, shape);
  for (const MixerKind mixer : layer_mixers(config)) {
    BlockTable mixing(config, shape), mlp(config, shape);
    if (mixer == MixerKind::ssd)
      mixing.ssd_mixer();
    else
      mixing.attention_mixer();
    mlp.mlp();
    const int64_t product = stream * config.intermediate_size / config.hidden_size;
    worst = std::max({worst, sum(mixing.take()), sum(mlp.take()) + product});
  }
  return 4 * stream + worst;  // x, the branch, their sum and its norm
}

ActivationMemory activation_memory(const ModelConfig& config, const ActivationShape& shape,
                                   Recompute recompute) {
  ActivationMemory memory;
  for (const MixerKind mixer : layer_mixers(config)) {
    const int64_t kept = sum(kept_by_block(config, mixer, shape, recompute));
    (mixer == MixerKind::ssd ? memory.ssd_layers : memory.attention_layers) += kept;
    const int64_t again =
        recompute == Recompute::full ? sum(kept_by_block(config, mixer, shape, Recompute::none)) : 0;
    memory.backward = std::max(memory.backward, backward_of_block(config, mixer, shape) + again);
  }
  const int64_t tokens = shape.batch * shape.seq_len;
  memory.last_norm = tokens * (config.hidden_size * shape.element + kF32);
  memory.loss = loss_bytes(config, shape);
  return memory;
}

}  // namespace transxssm
