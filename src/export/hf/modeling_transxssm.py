"""TransXSSM in plain PyTorch: blocks of a mixer (attention or state space) and a gated MLP.

Several documents may share a row: `position_ids` that return to 0 start a new one, which sees nothing before it.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import can_return_tuple

from .configuration_transxssm import TransXSSMConfig
from .mixers_transxssm import CausalConv1d, RMSNorm, SelfAttention, StateSpace, Tokens, TransXSSMCache, rotary_table

# What this version of transformers calls the cache in arguments and outputs.
CACHE = "cache" if "cache" in BaseModelOutputWithPast.__dataclass_fields__ else "past_key_values"

# Modules and parameters that stay f32 in whatever dtype the model is loaded: 16 bits are too coarse near 1.
FULL_PRECISION = [
    "pre_sequence_layernorm", "pre_state_layernorm", "final_layernorm", "post_sequence_residual", "post_state_residual",
    "A", "D", "dt_proj", "conv1d", "c_norm", "b_norm", "q_norm", "k_norm", "norm",
]  # fmt: skip


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x, branch):
        return (self.weight.float() * x.float() + branch.float()).to(x.dtype)


class FeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        d, f, bias = config.hidden_size, config.intermediate_size, config.hidden_bias
        self.gate_proj = nn.Linear(d, f, bias=bias)
        self.up_proj = nn.Linear(d, f, bias=bias)
        self.down_proj = nn.Linear(f, d, bias=bias)

    def forward(self, u):
        return self.down_proj(F.silu(self.gate_proj(u)) * self.up_proj(u))


class DecoderLayer(nn.Module):
    """x = r1 * x + mixer(norm(x)), then x = r2 * x + mlp(norm(x))."""

    def __init__(self, config, layer):
        super().__init__()
        learned = config.residual_scale == "learned"
        self.pre_sequence_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.kind = config.layer_mixers[layer]
        if self.kind == "attn":
            self.attn = SelfAttention(config, layer)
        else:
            self.ssd = StateSpace(config, layer)
        self.post_sequence_residual = Residual(config.hidden_size) if learned else torch.add
        self.has_mlp = config.intermediate_size > 0
        if self.has_mlp:
            self.pre_state_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
            self.feed_forward = FeedForward(config)
            self.post_state_residual = Residual(config.hidden_size) if learned else torch.add

    def forward(self, x, tokens, tables, cache):
        mixer = self.attn if self.kind == "attn" else self.ssd
        x = self.post_sequence_residual(x, mixer(self.pre_sequence_layernorm(x), tokens, tables[self.kind], cache))
        if self.has_mlp:
            x = self.post_state_residual(x, self.feed_forward(self.pre_state_layernorm(x)))
        return x


class TransXSSMPreTrainedModel(PreTrainedModel):
    config_class = TransXSSMConfig
    base_model_prefix = "model"
    _no_split_modules = ["DecoderLayer"]
    _is_stateful = True  # the state of a scan can't be cut back to fewer tokens, as assisted generation would

    def post_init(self):
        parts = {part for name, _ in self.named_parameters() for part in name.split(".")}
        kept = [name for name in FULL_PRECISION if name in parts]  # older versions refuse names that are not there
        self._keep_in_fp32_modules = self._keep_in_fp32_modules_strict = kept
        if getattr(self, "dtype_plan", None) is not None:  # transformers 5.0 made it of the class's names
            self.dtype_plan.update(dict.fromkeys(kept, torch.float32))
        super().post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        """Initial values for a model made from a configuration; what a file gave is never touched."""

        def fresh(parameter):
            return parameter is not None and not getattr(parameter, "_is_hf_initialized", False)

        if isinstance(module, (nn.Linear, nn.Embedding)) and fresh(module.weight):
            module.weight.normal_(std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and fresh(module.bias):
            module.bias.zero_()
        if isinstance(module, (RMSNorm, Residual)) and fresh(module.weight):
            module.weight.fill_(1)
        if isinstance(module, CausalConv1d) and fresh(module.weight):
            module.weight.uniform_(-1, 1).div_(math.sqrt(module.weight.shape[1]))
            module.bias.zero_()
        if isinstance(module, StateSpace) and fresh(module.A):
            module.A.uniform_(-16, -1)
            dt = torch.empty_like(module.A).uniform_(math.log(1e-3), math.log(1e-1)).exp()
            if fresh(module.dt_proj.bias):
                module.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))
                module.dt_proj.bias._is_hf_initialized = True
            if self.config.ssd_d_skip and fresh(module.D):
                module.D.fill_(1)


class TransXSSMModel(TransXSSMPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.word_embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([DecoderLayer(config, layer) for layer in range(config.num_hidden_layers)])
        self.final_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_init()

    def get_input_embeddings(self):
        return self.word_embed

    def set_input_embeddings(self, value):
        self.word_embed = value

    def _tokens(self, x, attention_mask, position_ids, cache):
        bsz, length = x.shape[:2]
        past = cache.get_seq_length() if cache is not None else 0
        if attention_mask is None:
            old = cache.segments >= 0 if past else x.new_zeros(bsz, 0, dtype=torch.bool)
            attention_mask = torch.cat([old, x.new_ones(bsz, length, dtype=torch.bool)], dim=1)
        valid = attention_mask[:, -length:].bool()
        if position_ids is None:
            position_ids = (attention_mask.long().cumsum(-1) - 1)[:, -length:].clamp(min=0)
        position_ids = position_ids.expand(bsz, length)
        starts = (position_ids == 0) & valid
        first = cache.segments.amax(dim=1, keepdim=True) if past else starts.new_full((bsz, 1), -1, dtype=torch.long)
        # A row's first document starts with its first token, whatever position that has.
        number = torch.maximum(first + starts.cumsum(-1), torch.zeros_like(first))
        segments = number.masked_fill(~valid, -1)
        if past:
            segments = torch.cat([cache.segments, segments], dim=1)
        if cache is not None:
            cache.segments = segments
        return Tokens(position_ids, valid, segments, first.clamp(min=0))

    @can_return_tuple
    def forward(
        self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, cache=None,
        inputs_embeds=None, use_cache=None, output_hidden_states=None, output_attentions=None, **kwargs,
    ):  # fmt: skip
        if self.config.output_attentions if output_attentions is None else output_attentions:
            raise ValueError("output_attentions: TransXSSM computes no matrix of attention weights to return")
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give one of input_ids and inputs_embeds")
        x = self.word_embed(input_ids) if inputs_embeds is None else inputs_embeds
        cache = past_key_values if cache is None else cache
        if cache is None and (self.config.use_cache and not self.training if use_cache is None else use_cache):
            cache = TransXSSMCache()
        tokens = self._tokens(x, attention_mask, position_ids, cache)
        config = self.config
        tables = {
            "attn": rotary_table(config, config.head_dim, tokens.positions) if config.attn_rope else None,
            "ssd": rotary_table(config, config.ssd_state_size, tokens.positions) if config.ssd_rope else None,
        }
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        seen = ()
        for layer in self.layers:
            seen += (x,) if output_hidden_states else ()
            x = layer(x, tokens, tables, cache)
        x = self.final_layernorm(x)
        hidden_states = seen + (x,) if output_hidden_states else None
        return BaseModelOutputWithPast(last_hidden_state=x, hidden_states=hidden_states, **{CACHE: cache})


class TransXSSMForCausalLM(TransXSSMPreTrainedModel, GenerationMixin):
    _tied_weights_keys = {"lm_head.weight": "model.word_embed.weight"}

    def __init__(self, config):
        super().__init__(config)
        self.model = TransXSSMModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @classmethod
    def _supports_default_dynamic_cache(cls):
        return False  # forward() makes a TransXSSMCache

    def get_input_embeddings(self):
        return self.model.word_embed

    def set_input_embeddings(self, value):
        self.model.word_embed = value

    def get_output_embeddings(self):
        return self.lm_head

    def set_output_embeddings(self, value):
        self.lm_head = value

    def prepare_inputs_for_generation(
        self, input_ids, attention_mask=None, past_key_values=None, cache=None, use_cache=None, inputs_embeds=None, **kwargs
    ):
        cache = past_key_values if cache is None else cache
        done = 0 if cache is None else cache.get_seq_length()
        if inputs_embeds is None:  # the mask covers what the cache holds, the ids not always
            new = (input_ids if attention_mask is None else attention_mask).shape[1] - done
            inputs = {"input_ids": input_ids[:, -new:]}
        else:  # they are the whole prompt
            inputs = {"input_ids": input_ids[:, -1:]} if done else {"inputs_embeds": inputs_embeds}
        return inputs | {"attention_mask": attention_mask, CACHE: cache, "use_cache": use_cache, "logits_to_keep": 1}

    @can_return_tuple
    def forward(self, input_ids=None, labels=None, logits_to_keep=0, num_items_in_batch=None, **kwargs):
        out = self.model(input_ids, return_dict=True, **kwargs)
        logits = self.lm_head(out.last_hidden_state[:, -logits_to_keep:])
        loss = None
        if labels is not None:  # by the sum over all micro-batches where the trainer counts their labels
            loss = self.loss_function(logits, labels, self.config.vocab_size, num_items_in_batch=num_items_in_batch)
        cache = {CACHE: getattr(out, CACHE)}
        return CausalLMOutputWithPast(loss=loss, logits=logits, hidden_states=out.hidden_states, **cache)


__all__ = ["TransXSSMConfig", "TransXSSMModel", "TransXSSMForCausalLM"]
