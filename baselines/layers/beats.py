"""BEATs: a transformer over 16 x 16 patches of a log-mel picture (Chen et al., ICML 2023).

    fbank -> patches -> LayerNorm -> Linear -> + convolutional position -> 12 post-norm layers

Parameters are named as in the published files, so that they load without renames. transformers'
WavLM is no substitute: its gate on the relative positions reads the hidden state, where BEATs
reads the projected query of each head.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.layers.kaldi_fbank import FRAME, SHIFT, Floats, kaldi_fbank

MEL_BINS = 128
PATCH = 16
SHORTEST_SAMPLES = FRAME + (PATCH - 1) * SHIFT
"""The shortest sound that fills a patch: 175 ms."""
# Mean and twice the standard deviation of log energies over AudioSet (BEATs.py of the authors).
_FBANK_MEAN, _FBANK_SPREAD = 15.41663, 2 * 6.55582

# Not used: the head of AudioSet's classes, and the copies of a table that all layers share.
BEATS_KEYS = (
    (r"^predictor\.", None),
    (r"^encoder\.layers\.[1-9]\d*\.self_attn\.relative_attention_bias\.weight$", None),
)

# Switches of the original code, in the position that every published iter3+ file has.
BEATS_SWITCHES = {
    "activation_fn": "gelu",
    "conv_bias": False,
    "deep_norm": True,
    "gru_rel_pos": True,
    "layer_norm_first": False,
    "relative_position_embedding": True,
}


def beats_fbank(waveform: Any) -> Floats:
    """Normalised filter bank [frames, 128] of a mono 16 kHz waveform [samples] in [-1, 1]."""
    loud = 2.0**15 * waveform
    return (kaldi_fbank(loud, bins=MEL_BINS) - _FBANK_MEAN) / _FBANK_SPREAD


@dataclass(frozen=True)
class BeatsConfig:
    """Sizes, under the names that the entry `cfg` of a published file gives them."""

    input_patch_size: int = PATCH
    embed_dim: int = 512
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    encoder_layers: int = 12
    conv_pos: int = 128
    conv_pos_groups: int = 16
    num_buckets: int = 320
    max_distance: int = 800

    @classmethod
    def from_file(cls, cfg: Mapping[str, Any]) -> "BeatsConfig":
        """Read the sizes. Raises CheckpointError where one is absent or a switch is another."""
        names = [field.name for field in fields(cls)]
        absent = [name for name in names if name not in cfg]
        other = [name for name, value in BEATS_SWITCHES.items() if cfg.get(name) != value]
        if absent or other:
            raise CheckpointError(
                f"the BEATs file's cfg is not of the iter3+ family ({', '.join(absent + other)} "
                "absent or different); get BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt"
            )
        return cls(**{name: cfg[name] for name in names})


class Beats(nn.Module):
    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        patch, narrow, wide = config.input_patch_size, config.embed_dim, config.encoder_embed_dim
        self.patch_embedding = nn.Conv2d(1, narrow, patch, stride=patch, bias=False)
        self.layer_norm = nn.LayerNorm(narrow)
        self.post_extract_proj = nn.Linear(narrow, wide)
        self.encoder = _Encoder(config)

    def forward(self, fbank: Tensor) -> Tensor:
        """[batch, frames, 128] -> [batch, 8 * (frames // 16), 768], eight tokens a time step.

        There is no mask: every item of a batch has the same number of frames.
        """
        patches = self.patch_embedding(fbank[:, None]).flatten(2).transpose(1, 2)
        tokens: Tensor = self.encoder(self.post_extract_proj(self.layer_norm(patches)))
        return tokens


class _Encoder(nn.Module):
    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        width, taps, groups = config.encoder_embed_dim, config.conv_pos, config.conv_pos_groups
        self.max_distance = config.max_distance
        self.pos_conv = nn.Sequential(_WeightNormConv(width, taps, groups))
        self.layer_norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(_Layer(config, i == 0) for i in range(config.encoder_layers))

    def forward(self, x: Tensor) -> Tensor:
        position = self.pos_conv(x.transpose(1, 2)).transpose(1, 2)
        x = self.layer_norm(x + F.gelu(position))
        bias = self._position_bias(x.shape[1])
        for layer in self.layers:
            x = layer(x, bias)
        return x

    def _position_bias(self, length: int) -> Tensor:
        """[heads, query, key]: the first layer's table, read at each offset key - query."""
        table = self.get_parameter("layers.0.self_attn.relative_attention_bias.weight")
        offsets = torch.arange(1 - length, length, device=table.device)
        values = table[_bucket(offsets, len(table), self.max_distance)].T
        return values.unfold(1, length, 1).flip(1)  # each query sees them one step further on


class _WeightNormConv(nn.Module):
    """Grouped convolution, [batch, width, time] -> same; at each tap the weight is g v / |v|."""

    def __init__(self, width: int, taps: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight_g = nn.Parameter(torch.ones(1, 1, taps))
        self.weight_v = nn.Parameter(torch.empty(width, width // groups, taps))
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.weight_v, std=math.sqrt(4 / (taps * width)))

    def forward(self, x: Tensor) -> Tensor:
        taps = self.weight_v.shape[-1]
        weight = self.weight_g * self.weight_v / self.weight_v.norm(dim=(0, 1), keepdim=True)
        y = F.conv1d(x, weight, self.bias, padding=taps // 2, groups=self.groups)
        return y[..., : x.shape[-1]]  # an even number of taps yields one frame too many


class _Layer(nn.Module):
    """Post-norm with DeepNorm: the residual is scaled by (2 x layers) ** 1/4."""

    def __init__(self, config: BeatsConfig, owns_table: bool) -> None:
        super().__init__()
        width = config.encoder_embed_dim
        self.alpha = (2 * config.encoder_layers) ** 0.25
        self.self_attn = _BeatsAttention(config, owns_table)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, config.encoder_ffn_embed_dim)
        self.fc2 = nn.Linear(config.encoder_ffn_embed_dim, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.self_attn_layer_norm(self.alpha * x + self.self_attn(x, bias))
        x = self.final_layer_norm(self.alpha * x + self.fc2(F.gelu(self.fc1(x))))
        return x


class _BeatsAttention(nn.Module):
    """Self-attention whose bias by relative position is gated per head and query."""

    def __init__(self, config: BeatsConfig, owns_table: bool) -> None:
        super().__init__()
        width, self.heads = config.encoder_embed_dim, config.encoder_attention_heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.grep_linear = nn.Linear(width // self.heads, 8)
        self.grep_a = nn.Parameter(torch.ones(1, self.heads, 1, 1))
        if owns_table:
            self.relative_attention_bias = nn.Embedding(config.num_buckets, self.heads)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """[batch, time, width] and [heads, time, time] -> [batch, time, width]."""
        q, k, v = (self._split(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self._gate(q) * bias)
        joined: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return joined

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _gate(self, query: Tensor) -> Tensor:
        """[batch, heads, time, head width] -> [batch, heads, time, 1]."""
        sums = self.grep_linear(query).unflatten(-1, (2, 4)).sum(-1)
        update, reset = torch.sigmoid(sums).split(1, dim=-1)
        gate: Tensor = update * (reset * self.grep_a - 1.0) + 2.0
        return gate


def _bucket(offsets: Tensor, buckets: int, max_distance: int) -> Tensor:
    """T5's two-sided buckets: exact for near offsets, logarithmic up to `max_distance`."""
    per_side = buckets // 2
    exact = per_side // 2
    distance = offsets.abs()
    # clamped only to keep log(0) out of the branch that is not taken
    ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    far = (exact + (ratio * (per_side - exact)).long()).clamp(max=per_side - 1)
    return torch.where(distance < exact, distance, far) + per_side * (offsets > 0)
