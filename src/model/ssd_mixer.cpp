// SSD mixer: packed projection, optional convolution and B/C norm, scan with RoPE, optional gated norm,
// output projection. TransXSSM's layer is the plain form; Mamba-2's has convolution, gate and D.
#include <algorithm>
#include <cmath>

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include "model/mixer.h"
#include "model/packed_spec.h"
#include "ops/causal_conv1d.h"
#include "ops/linear.h"
#include "ops/rms_norm.h"

namespace transxssm {
namespace {

int64_t inner_width(const SsdConfig& c) { return c.num_heads * c.head_dim; }            // H·P
int64_t bc_width(const SsdConfig& c) { return c.num_groups * c.state_dim; }             // G·N
int64_t conv_channels(const SsdConfig& c) { return 2 * bc_width(c) + inner_width(c); }  // of C, B, X

struct SsdCache : MixerCache {
  at::Tensor state_bhpn;
  at::Tensor conv_window_bkc;  // undefined without convolution
};

class SsdMixer : public Mixer {
 public:
  SsdMixer(const ModelConfig& config, const std::string& prefix, const ParameterTable& table,
           const ops::RopeTable* rope, ops::SsdPath path)
      : config_(config.ssd), dims_(ssd_dims(config.ssd, path)), eps_(config.norm_eps), rope_(rope) {
    const auto get = [&](const std::string& name) { return table.at(prefix + "ssd." + name); };
    in_proj_ = get("in_proj.weight");
    out_proj_ = get("out_proj.weight");
    a_log_ = get("A_log");
    dt_bias_ = get("dt_bias");
    if (config_.d_skip) d_skip_ = get("D");
    if (config_.conv_width > 0) {
      conv_weight_ = get("conv1d.weight");
      conv_bias_ = get("conv1d.bias");
    }
    if (config_.bc_norm) {
      c_norm_ = get("c_norm.weight");
      b_norm_ = get("b_norm.weight");
    }
    if (config_.gate) gate_norm_ = get("norm.weight");
  }

  const ParameterPtr& projection() const override { return in_proj_; }

  at::Tensor forward(const at::Tensor& packed_btw, const ops::Documents& documents) const override {
    auto [scan_input, z_bti] = split(packed_btw);
    if (conv_weight_) scan_input = ops::causal_conv1d(scan_input, conv_weight_, conv_bias_, documents);
    const auto y = ops::ssd(dims_, norm_bc(scan_input), a_log_, dt_bias_, d_skip_, rope_, documents).y_btw;
    return project_out(y, z_bti);
  }

  at::Tensor prefill(const at::Tensor& packed_btw, const Prompts& prompts, MixerCache& cache,
                     bool last_only) const override {
    auto& own = static_cast<SsdCache&>(cache);
    auto [scan_input, z_bti] = split(packed_btw);
    if (conv_weight_) {
      const auto inputs = scan_input.narrow(2, 0, conv_channels(config_));
      own.conv_window_bkc.copy_(last_window(prompts, inputs, config_.conv_width - 1));
      scan_input = ops::causal_conv1d(scan_input, conv_weight_, conv_bias_, prompts.documents);
    }
    scan_input = norm_bc(scan_input);
    if (prompts.padding_bt.defined()) {
      // softplus of this is 0: the token neither decays the state nor adds to it.
      constexpr double kNoStep = -1e4;
      const int64_t tau = ops::ssd_packed_columns(dims_) - dims_.num_heads;
      scan_input.narrow(-1, tau, dims_.num_heads).masked_fill_(prompts.padding_bt.unsqueeze(-1), kNoStep);
    }
    const auto result = ops::ssd(dims_, scan_input, a_log_, dt_bias_, d_skip_, rope_, prompts.documents);
    own.state_bhpn.copy_(result.final_state_bhpn);
    if (!last_only) return project_out(result.y_btw, z_bti);
    return project_out(last_tokens(prompts, result.y_btw), gate_norm_ ? last_tokens(prompts, z_bti) : z_bti);
  }

  at::Tensor step(const at::Tensor& packed_bw, const at::Tensor& positions_b,
                  MixerCache& cache) const override {
    auto& own = static_cast<SsdCache&>(cache);
    auto [scan_input, z_bi] = split(packed_bw);
    if (conv_weight_)
      scan_input = ops::causal_conv1d_step(scan_input, conv_weight_, conv_bias_, own.conv_window_bkc);
    const auto y = ops::ssd_step(dims_, norm_bc(scan_input), a_log_, dt_bias_, d_skip_, rope_, positions_b,
                                 own.state_bhpn);
    return project_out(y, z_bi);
  }

  std::unique_ptr<MixerCache> make_cache(int64_t batch, int64_t) const override {
    auto cache = std::make_unique<SsdCache>();
    const auto& weight = in_proj_->weight;
    const auto acc = weight.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    cache->state_bhpn = at::zeros({batch, dims_.num_heads, dims_.head_dim, dims_.state_dim},
                                  weight.options().dtype(acc).requires_grad(false));
    if (conv_weight_)
      cache->conv_window_bkc = at::zeros({batch, config_.conv_width - 1, conv_channels(config_)},
                                         weight.options().requires_grad(false));
    return cache;
  }

 private:
  struct Columns {
    at::Tensor scan;  // [C | B | X | τ | anything]
    at::Tensor z;     // the gate; undefined without one
  };

  // Views of the projection. Without convolution and gate the whole of it: a narrower view would have its
  // gradient copied into a wider one. With both one split, whose backward joins their gradients in one pass.
  Columns split(const at::Tensor& packed) const {
    if (!conv_weight_ && !gate_norm_) return {packed, {}};
    const int64_t gate = gate_norm_ ? inner_width(config_) : 0, used = ops::ssd_packed_columns(dims_);
    // As many columns as keep a convolution's rows aligned; the padding before the gate has them.
    const int64_t aligned = (used + kPackedRowAlignment - 1) / kPackedRowAlignment * kPackedRowAlignment;
    const int64_t scan = std::min(aligned, packed.size(-1) - gate);
    const auto parts = packed.split_with_sizes({scan, packed.size(-1) - scan - gate, gate}, -1);
    return {parts[0], gate_norm_ ? parts[2] : at::Tensor()};
  }

  // RMSNorm over the state width of every group of C and of B, when configured.
  at::Tensor norm_bc(const at::Tensor& scan) const {
    if (!config_.bc_norm) return scan;
    const int64_t width = bc_width(config_);
    const auto norm = [&](int64_t begin, const ParameterPtr& w) {
      const auto part = scan.narrow(-1, begin, width).unflatten(-1, {dims_.num_groups, dims_.state_dim});
      return ops::rms_norm(part, w, eps_).flatten(-2);
    };
    const auto rest = scan.narrow(-1, 2 * width, scan.size(-1) - 2 * width);
    return at::cat({norm(0, c_norm_), norm(width, b_norm_), rest}, -1);
  }

  at::Tensor project_out(at::Tensor y, const at::Tensor& z) const {
    if (gate_norm_) y = ops::gated_rms_norm(y, z, gate_norm_, eps_);
    return ops::linear(y, out_proj_);
  }

  SsdConfig config_;
  ops::SsdDims dims_;
  double eps_;
  const ops::RopeTable* rope_;
  ParameterPtr in_proj_, out_proj_, a_log_, dt_bias_, d_skip_, conv_weight_, conv_bias_, c_norm_, b_norm_,
      gate_norm_;
};

}  // namespace

ops::SsdDims ssd_dims(const SsdConfig& c, ops::SsdPath path) {
  return {c.num_heads, c.head_dim, c.state_dim, c.num_groups, c.chunk_size, path};
}

std::vector<ParameterSpec> ssd_mixer_specs(const ModelConfig& config, const LayerInit& layer) {
  const SsdConfig& c = config.ssd;
  const std::string prefix = layer.prefix + "ssd.";
  const Init normal = normal_init(layer.std);
  std::vector<ParameterSpec> specs;

  PackedSpec in_proj(prefix + "in_proj.weight", config.hidden_size);
  in_proj.rows(prefix + "c_proj.weight", bc_width(c), normal)
      .rows(prefix + "b_proj.weight", bc_width(c), normal)
      .rows(prefix + "x_proj.weight", inner_width(c), normal)
      .rows(prefix + "dt_proj.weight", c.num_heads, normal)
      .pad();
  if (c.gate) in_proj.rows(prefix + "z_proj.weight", inner_width(c), normal).pad();
  specs.push_back(in_proj.done());
  specs.push_back(single_spec(prefix + "out_proj.weight", ParameterKind::matrix,
                              {config.hidden_size, inner_width(c)}, true, normal_init(layer.output_std)));

  // The published code starts at |A| = 1 without a dt bias; Mamba-2 spreads A and Δ over their useful ranges.
  const bool spread = c.init == SsdInit::mamba2;
  const Init a_log =
      spread ? Init{Init::Kind::log_uniform, c.a_init_range[0], c.a_init_range[1]} : constant_init(0);
  const Init dt_bias = spread ? Init{Init::Kind::inv_softplus, c.dt_min, c.dt_max} : constant_init(0);
  specs.push_back(vector_spec(prefix + "A_log", {c.num_heads}, a_log));
  specs.push_back(vector_spec(prefix + "dt_bias", {c.num_heads}, dt_bias));
  if (c.d_skip) specs.push_back(vector_spec(prefix + "D", {c.num_heads}, constant_init(1)));
  if (c.conv_width > 0) {
    const double bound =
        1.0 / std::sqrt(static_cast<double>(c.conv_width));  // as Mamba-2's Conv1d: 1/√fan-in
    const Init uniform{Init::Kind::uniform, -bound, bound};
    specs.push_back(single_spec(prefix + "conv1d.weight", ParameterKind::vector,
                                {conv_channels(c), c.conv_width},
                                /*weight_decay=*/true, uniform));
    specs.push_back(vector_spec(prefix + "conv1d.bias", {conv_channels(c)}, uniform));
  }
  if (c.bc_norm) {
    specs.push_back(vector_spec(prefix + "c_norm.weight", {c.state_dim}, constant_init(1)));
    specs.push_back(vector_spec(prefix + "b_norm.weight", {c.state_dim}, constant_init(1)));
  }
  if (c.gate) specs.push_back(vector_spec(prefix + "norm.weight", {inner_width(c)}, constant_init(1)));
  return specs;
}

std::unique_ptr<Mixer> make_ssd_mixer(const ModelConfig& config, const std::string& prefix,
                                      const ParameterTable& table, const ops::RopeTable* rope,
                                      ops::SsdPath path) {
  return std::make_unique<SsdMixer>(config, prefix, table, rope, path);
}

}  // namespace transxssm
