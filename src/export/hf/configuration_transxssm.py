"""Configuration of an exported TransXSSM model: the published class's fields, and those of its variants."""

from transformers.configuration_utils import PretrainedConfig


class TransXSSMConfig(PretrainedConfig):
    """Layer i mixes tokens by attention or by a state space (SSD), as `layer_mixers[i]` ("attn" or "ssd") says.

    `ssd_*` describe the SSD layers, `num_attention_heads`, `num_key_value_heads` and `head_dim` the attention layers.
    `intermediate_size` 0 leaves the MLP out. `residual_scale` is "learned" (a weight per channel) or "plain".
    `rope_scaling` is None or a dict with `rope_type` linear, ntk, yarn or llama3; one rotary table serves both mixers.
    With `hidden_bias` linear layers have biases: that of `dt_proj` is the time step's, the others are zero.
    """

    model_type = "TransXSSM"
    keys_to_ignore_at_inference = ["past_key_values", "cache"]
    rope_scaling = None  # a plain attribute: newer versions of transformers have a property of this name

    def __init__(
        self,
        vocab_size=32768,
        hidden_size=1024,
        intermediate_size=2048,
        num_hidden_layers=32,
        hidden_bias=True,
        hidden_act="silu",
        max_position_embeddings=4096,
        rope_theta=10000.0,
        rope_scaling=None,
        initializer_range=0.02,
        rms_norm_eps=1e-6,
        use_cache=True,
        tie_word_embeddings=True,
        residual_scale="learned",
        layer_mixers=None,
        attn_layer_period=8,
        attn_layer_offset=7,
        num_attention_heads=8,
        num_key_value_heads=None,
        head_dim=None,
        qk_norm=False,
        attn_rope=True,
        ssd_chunk_size=128,
        ssd_num_heads=None,
        ssd_head_dim=None,
        ssd_state_size=None,
        ssd_num_groups=None,
        ssd_rope=True,
        ssd_conv_width=0,
        ssd_gate=False,
        ssd_d_skip=False,
        ssd_bc_norm=False,
        **kwargs,
    ):
        def default(value, otherwise):
            return otherwise if value is None else value

        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.hidden_bias = hidden_bias
        self.hidden_act = hidden_act
        self.max_position_embeddings = max_position_embeddings
        self.initializer_range = initializer_range
        self.rms_norm_eps = rms_norm_eps
        self.use_cache = use_cache
        self.residual_scale = residual_scale
        self.attn_layer_period = attn_layer_period
        self.attn_layer_offset = attn_layer_offset
        by_period = ["attn" if i % attn_layer_period == attn_layer_offset else "ssd" for i in range(num_hidden_layers)]
        self.layer_mixers = default(layer_mixers, by_period)
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = default(num_key_value_heads, num_attention_heads)
        self.head_dim = default(head_dim, hidden_size // num_attention_heads)
        self.qk_norm = qk_norm
        self.attn_rope = attn_rope
        self.ssd_chunk_size = ssd_chunk_size
        self.ssd_num_heads = default(ssd_num_heads, num_attention_heads)
        self.ssd_head_dim = default(ssd_head_dim, self.head_dim)
        self.ssd_state_size = default(ssd_state_size, self.ssd_head_dim)
        self.ssd_num_groups = default(ssd_num_groups, self.ssd_num_heads)
        self.ssd_rope = ssd_rope
        self.ssd_conv_width = ssd_conv_width
        self.ssd_gate = ssd_gate
        self.ssd_d_skip = ssd_d_skip
        self.ssd_bc_norm = ssd_bc_norm
        self.rope_theta = rope_theta
        self.rope_scaling = rope_scaling
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)


__all__ = ["TransXSSMConfig"]
