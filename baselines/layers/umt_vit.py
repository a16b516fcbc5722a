"""UMT-L/16 (Li et al., ICCV 2023, arXiv 2303.16058), the video tower of VideoChat2.

    T frames -> patches of 16 x 16, 196 a frame -> + fixed positions in time and space
             -> pre-norm layers, each token attending to all tokens of all frames

The published model returns the hidden states of its last layer but one: the last layer is in no
file, and neither is a norm behind it. Parameters are named as in the published files. The
sinusoidal positions are made for four frames; for another number they are stretched along time,
as VideoChat2's chat code does (`conversation.py`, `get_sinusoid_encoding_table`).
"""

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.weight_files import Tensors
from ovmer.baselines.weights import check_heads

GRID = 14
"""Patches along each side of a frame."""
_FRAMES = 4
"""Frames that the positions were made for."""


@dataclass(frozen=True)
class UmtConfig:
    """Sizes; the defaults are UMT-L/16 up to the layer that is used."""

    width: int = 1024
    layers: int = 23
    heads: int = 16
    hidden: int = 4096
    patch: int = 16

    @classmethod
    def from_tensors(cls, tensors: Tensors, here: str, heads: int) -> "UmtConfig":
        """The sizes that the shapes of renamed tensors tell; the number of heads is not among them.

        Raises CheckpointError where there is no such tower.
        """
        patches = tensors.get(f"{here}patch_embed.proj.weight")
        fc1 = tensors.get(f"{here}blocks.0.mlp.fc1.weight")
        if patches is None or fc1 is None:
            raise CheckpointError("the checkpoint has no UMT video tower; is it the right file?")
        numbers = re.compile(re.escape(f"{here}blocks.") + r"(\d+)\.")
        layers = 1 + max(int(m[1]) for key in tensors if (m := numbers.match(key)))
        width, *_, patch = patches.sides(5)
        check_heads(patches, width, heads)
        return cls(width, layers, heads, fc1.sides(2)[0], patch)


class UmtVit(nn.Module):
    def __init__(self, config: UmtConfig) -> None:
        super().__init__()
        self.patch_embed = _Patches(config)
        self.blocks = nn.ModuleList(_UmtBlock(config) for _ in range(config.layers))

    def forward(self, pixels: Tensor) -> Tensor:
        """T x 3 x size x size -> (T * 196) x width, frame after frame."""
        x: Tensor = self.patch_embed(pixels)
        x = x + positions(len(pixels), x.shape[-1]).to(x)
        for block in self.blocks:
            x = block(x)
        return x


class _Patches(nn.Module):
    def __init__(self, config: UmtConfig) -> None:
        super().__init__()
        size = (1, config.patch, config.patch)
        self.proj = nn.Conv3d(3, config.width, size, stride=size)

    def forward(self, pixels: Tensor) -> Tensor:
        """T x 3 x size x size -> (T * 196) x width."""
        tokens: Tensor = self.proj(pixels.transpose(0, 1)).flatten(1).T
        return tokens


class _UmtBlock(nn.Module):
    def __init__(self, config: UmtConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6)
        self.attn = _UmtAttention(config)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6)
        self.mlp = nn.ModuleDict(
            {
                "fc1": nn.Linear(config.width, config.hidden),
                "fc2": nn.Linear(config.hidden, config.width),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class _UmtAttention(nn.Module):
    """Self-attention in which queries and values have a bias and keys have none."""

    def __init__(self, config: UmtConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q_bias = nn.Parameter(torch.zeros(config.width))
        self.v_bias = nn.Parameter(torch.zeros(config.width))
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens x width -> same."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        q, k, v = F.linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.heads, -1)).unbind(1)
        mixed = F.scaled_dot_product_attention(*(y.transpose(0, 1)[None] for y in (q, k, v)))
        joined: Tensor = self.proj(mixed[0].transpose(0, 1).flatten(1))
        return joined


@cache
def positions(frames: int, width: int) -> Tensor:
    """Sinusoids of each position in a clip, (frames * 196) x width, float32.

    Even columns are sines and odd ones cosines of position / 10000 ** (2 (column // 2) / width).
    Positions are counted through four frames and stretched linearly along time to `frames`.
    """
    position, column = np.arange(_FRAMES * GRID**2)[:, None], np.arange(width)
    angle = position / 10000 ** (2 * (column // 2) / width)
    table = torch.from_numpy(np.where(column % 2, np.cos(angle), np.sin(angle))).float()
    if frames == _FRAMES:
        return table
    over_time = table.unflatten(0, (_FRAMES, -1)).permute(1, 2, 0)  # 196 x width x 4
    stretched = F.interpolate(over_time, size=frames, mode="linear")
    return stretched.permute(2, 0, 1).flatten(0, 1)
