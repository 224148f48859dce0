"""The mixers of TransXSSM in plain PyTorch: attention and state space (SSD), which share one rotary embedding.

Letters of shapes: B batch, T tokens, S cached and new tokens, H heads, G groups, P head width, N state width, L chunk.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


class TransXSSMCache:
    """What generation remembers: keys and values of attention layers; states and last convolution inputs of SSD layers.

    `segments` [B, S] numbers the document of every token so far, -1 for padding.
    """

    is_compileable = False
    is_linear = (True,)  # generate() leaves it to the model to find what is new in its input

    def __init__(self):
        self.segments = None
        self.layers = {}  # layer -> list of tensors whose first dimension is the batch

    def get_seq_length(self, layer_idx=0):
        return 0 if self.segments is None else self.segments.shape[1]

    def get_max_cache_shape(self, layer_idx=0):
        return -1

    def _change_batch(self, change):
        if self.segments is not None:
            self.segments = change(self.segments)
        self.layers = {layer: [change(tensor) for tensor in held] for layer, held in self.layers.items()}

    def reorder_cache(self, beam_idx):
        self._change_batch(lambda tensor: tensor.index_select(0, beam_idx.to(tensor.device)))

    def batch_repeat_interleave(self, repeats):
        self._change_batch(lambda tensor: tensor.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices):
        self._change_batch(lambda tensor: tensor[indices.to(tensor.device)])


@dataclass
class Tokens:
    """Where the new tokens lie."""

    positions: torch.Tensor  # [B, T], from 0 in each document
    valid: torch.Tensor  # [B, T], false for padding
    segments: torch.Tensor  # [B, S], document of each token so far, -1 for padding
    first_segment: torch.Tensor  # [B, 1], document that the cached state belongs to


def rope_frequencies(config, width):
    """(radians per position [width / 2] in f64, factor on the rotated vectors)."""
    scaling = dict(config.rope_scaling or {})
    kind = scaling.get("rope_type") or "default"
    base = config.rope_theta
    factor = scaling.get("factor", 1.0)
    if kind == "ntk":
        base *= factor ** (width / (width - 2))
    theta = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    if kind in ("default", "ntk"):
        return theta, 1.0
    if kind == "linear":
        return theta / factor, 1.0
    context = scaling["original_max_position_embeddings"]
    if kind == "llama3":
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        kept = ((context * theta / (2 * math.pi) - low) / (high - low)).clamp(0, 1)
        return theta * (kept + (1 - kept) / factor), 1.0
    if kind == "yarn":

        def dimension_of(turns):
            return width / 2 * math.log(context / (turns * 2 * math.pi)) / math.log(base)

        low = max(math.floor(dimension_of(scaling["beta_fast"])), 0)
        high = min(math.ceil(dimension_of(scaling["beta_slow"])), width - 1)
        stretched = ((torch.arange(width // 2, dtype=torch.float64) - low) / max(high - low, 1e-3)).clamp(0, 1)
        attention_factor = scaling.get("attention_factor") or 0.1 * math.log(factor) + 1
        return theta * (stretched / factor + 1 - stretched), attention_factor
    raise ValueError(f"rope_scaling: unknown rope_type {kind!r}; valid are linear, ntk, yarn, llama3")


def rotary_table(config, width, positions):
    """cos and sin [B, T, 1, width / 2] in f32; the angles are f64."""
    theta, factor = rope_frequencies(config, width)
    angles = positions.double().unsqueeze(-1) * theta.to(positions.device)
    return (angles.cos() * factor).float().unsqueeze(2), (angles.sin() * factor).float().unsqueeze(2)


def rotate(x, table):
    """x [B, T, heads, width] in f32, channel k turned together with channel k + width / 2."""
    if table is None:
        return x
    (cos, sin), (x1, x2) = table, x.chunk(2, dim=-1)
    return torch.cat([x1 * cos - x2 * sin, x2 * cos + x1 * sin], dim=-1)


def ssd_scan(c, b, x, dt, a, state, tokens, chunk_size):
    """y_t = S_t C_t with S_t = exp(a dt_t) S_{t-1} + dt_t X_t B_t^T, chunk by chunk, S zero before each document.

    c, b [B, T, H, N], x [B, T, H, P], dt [B, T, H], a [H], state [B, H, P, N]; all f32.
    """
    segments = tokens.segments[:, -c.shape[1] :].masked_fill(~tokens.valid, -1)
    # Padding neither decays nor adds (dt is 0), so it may count to the document before it.
    segments = torch.maximum(segments, tokens.first_segment).cummax(dim=1).values
    carried, outputs = tokens.first_segment, []
    for begin in range(0, c.shape[1], chunk_size):
        c_k, b_k, x_k, dt_k = (t[:, begin : begin + chunk_size].transpose(1, 2) for t in (c, b, x, dt))
        own = segments[:, begin : begin + chunk_size]
        visible = (own.unsqueeze(2) == own.unsqueeze(1)).tril().unsqueeze(1)  # [B, 1, L, L]
        # Sums of log-decay over the token's own document only, so that no other one enters the rounding.
        s = torch.einsum("blm,bhm->bhl", visible[:, 0].double(), (dt_k * a[:, None]).double())
        decay = (s.unsqueeze(-1) - s.unsqueeze(-2)).float().clamp(max=0).exp() * visible
        xdt = x_k * dt_k.unsqueeze(-1)
        y = ((c_k @ b_k.transpose(-1, -2)) * decay) @ xdt
        from_carry = s.float().exp() * (own == carried).unsqueeze(1)  # [B, H, L]
        y = y + (c_k @ state.transpose(-1, -2)) * from_carry.unsqueeze(-1)
        last = own[:, -1:]
        to_end = (s[..., -1:] - s).float().clamp(max=0).exp() * (own == last).unsqueeze(1)
        state = state * from_carry[..., -1, None, None] + (xdt * to_end.unsqueeze(-1)).transpose(-1, -2) @ b_k
        carried = last
        outputs.append(y)
    return torch.cat(outputs, dim=2).transpose(1, 2), state


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        x32 = x.float()
        return (x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps) * self.weight.float()).to(x.dtype)


class CausalConv1d(nn.Module):
    """Depthwise, with SiLU; taps see only their own document."""

    def __init__(self, channels, width):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, width))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x, window, tokens):
        """x [B, T, C] f32, window [B, width - 1, C]: the inputs before. Returns the output and the next window."""
        width, length = self.weight.shape[1], x.shape[1]
        inputs = torch.cat([window, x * tokens.valid.unsqueeze(-1)], dim=1)
        before = tokens.segments.shape[1] - length
        segments = F.pad(tokens.segments, (width, 0), value=-1)[:, before + 1 :]  # [B, width - 1 + T]
        y = self.bias.float().expand_as(x)
        for tap in range(width):
            seen = segments[:, tap : tap + length] == segments[:, width - 1 :]
            y = y + inputs[:, tap : tap + length] * seen.unsqueeze(-1) * self.weight[:, tap].float()
        return F.silu(y), inputs[:, length:]


class StateSpace(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.config, self.layer = config, layer
        d, h, bias = config.hidden_size, config.ssd_num_heads, config.hidden_bias
        inner, bc = h * config.ssd_head_dim, config.ssd_num_groups * config.ssd_state_size
        self.c_proj = nn.Linear(d, bc, bias=bias)
        self.b_proj = nn.Linear(d, bc, bias=bias)
        self.x_proj = nn.Linear(d, inner, bias=bias)
        self.dt_proj = nn.Linear(d, h, bias=bias)  # its bias is the dt bias
        self.out_proj = nn.Linear(inner, d, bias=bias)
        self.A = nn.Parameter(-torch.ones(h))  # negative: the state decays
        if config.ssd_conv_width:
            self.conv1d = CausalConv1d(2 * bc + inner, config.ssd_conv_width)  # channels of C, B, X
        if config.ssd_bc_norm:
            self.c_norm = RMSNorm(config.ssd_state_size, config.rms_norm_eps)
            self.b_norm = RMSNorm(config.ssd_state_size, config.rms_norm_eps)
        if config.ssd_d_skip:
            self.D = nn.Parameter(torch.ones(h))
        if config.ssd_gate:
            self.z_proj = nn.Linear(d, inner, bias=bias)
            self.norm = RMSNorm(inner, config.rms_norm_eps)

    def _initial(self, u):
        config, bsz = self.config, u.shape[0]
        state = u.new_zeros(bsz, config.ssd_num_heads, config.ssd_head_dim, config.ssd_state_size, dtype=torch.float32)
        if not config.ssd_conv_width:
            return [state]
        channels = self.conv1d.weight.shape[0]
        return [state, u.new_zeros(bsz, config.ssd_conv_width - 1, channels, dtype=torch.float32)]

    def forward(self, u, tokens, table, cache):
        config = self.config
        groups, n, heads, p = config.ssd_num_groups, config.ssd_state_size, config.ssd_num_heads, config.ssd_head_dim
        held = cache.layers.get(self.layer) if cache is not None else None
        held = held or self._initial(u)
        c, b, x = self.c_proj(u).float(), self.b_proj(u).float(), self.x_proj(u).float()
        if config.ssd_conv_width:
            mixed, held[1] = self.conv1d(torch.cat([c, b, x], dim=-1), held[1], tokens)
            c, b, x = mixed.split([groups * n, groups * n, heads * p], dim=-1)
        c, b, x = c.unflatten(-1, (groups, n)), b.unflatten(-1, (groups, n)), x.unflatten(-1, (heads, p))
        if config.ssd_bc_norm:
            c, b = self.c_norm(c), self.b_norm(b)
        c, b = (rotate(t, table).repeat_interleave(heads // groups, dim=2) for t in (c, b))
        tau = self.dt_proj(u.to(self.dt_proj.weight.dtype)).float()
        dt = F.softplus(tau, threshold=40) * tokens.valid.unsqueeze(-1)
        y, held[0] = ssd_scan(c, b, x, dt, self.A.float(), held[0], tokens, config.ssd_chunk_size)
        if config.ssd_d_skip:
            y = y + x * self.D.float().unsqueeze(-1)
        y = y.flatten(2)
        if config.ssd_gate:
            y = self.norm(y * F.silu(self.z_proj(u).float()))
        if cache is not None:
            cache.layers[self.layer] = held
        return self.out_proj(y.to(u.dtype))


class SelfAttention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.config, self.layer = config, layer
        d, p, bias = config.hidden_size, config.head_dim, config.hidden_bias
        self.q_proj = nn.Linear(d, config.num_attention_heads * p, bias=bias)
        self.k_proj = nn.Linear(d, config.num_key_value_heads * p, bias=bias)
        self.v_proj = nn.Linear(d, config.num_key_value_heads * p, bias=bias)
        self.o_proj = nn.Linear(config.num_attention_heads * p, d, bias=bias)
        if config.qk_norm:
            self.q_norm = RMSNorm(p, config.rms_norm_eps)
            self.k_norm = RMSNorm(p, config.rms_norm_eps)

    def forward(self, u, tokens, table, cache):
        heads = (-1, self.config.head_dim)
        q, k, v = (proj(u).unflatten(-1, heads) for proj in (self.q_proj, self.k_proj, self.v_proj))
        if self.config.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = (rotate(t.float(), table).to(u.dtype).transpose(1, 2) for t in (q, k))
        v = v.transpose(1, 2)
        if cache is not None:
            if self.layer in cache.layers:
                k, v = (torch.cat([old, new], dim=2) for old, new in zip(cache.layers[self.layer], (k, v)))
            cache.layers[self.layer] = [k, v]
        repeat = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
        new = tokens.segments[:, -u.shape[1] :]
        # Padding has the segment -1 and sees only padding: its softmax is finite and nobody reads it.
        visible = (new.unsqueeze(2) == tokens.segments.unsqueeze(1)).tril(tokens.segments.shape[1] - u.shape[1])
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible.unsqueeze(1))
        return self.o_proj(y.transpose(1, 2).flatten(2))
