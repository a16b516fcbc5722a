"""The three branches between HumanOmni's image tower and its language model.

    patches -> video: RegStage -> Conv3d, half the side -> RegStage -> MLP
            -> body:  the same with weights of its own
            -> face:  MLP -> half the side, bilinear

All see whole frames. Source: HumanMLLM/HumanOmni at 26fa491, `projector.py` and
`humanomni_arch.py`; RegStage is timm 1.0.3's (Radosavovic et al., 2020) with SiLU and LayerNorm,
under its names.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-5  # of timm's LayerNormAct2d; its LayerNorm2d alone has 1e-6
_SLOW = 4  # the compressor keeps every fourth frame at full size, from the second one on


@dataclass(frozen=True)
class ConnectorSizes:
    """Differences between the connectors that `mm_projector_type` names."""

    depth: int
    """Blocks of a RegStage."""
    padding: tuple[int, int, int]
    """Of the Conv3d: frames, rows, columns."""


SMALL, LARGE = "all_in_one_small", "all_in_one"
BRANCHES: Mapping[str, ConnectorSizes] = {
    SMALL: ConnectorSizes(2, (1, 0, 0)),
    LARGE: ConnectorSizes(4, (1, 1, 1)),
}


class ConvNorm(nn.Module):
    """A convolution without bias, and a norm over the channels of each position."""

    def __init__(self, inner: int, outer: int, kernel: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.bn = nn.LayerNorm(outer, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """N x inner x h x w -> N x outer x h x w."""
        normed: Tensor = self.bn(self.conv(x).permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)


class SqueezeExcite(nn.Module):
    """Each channel times a factor that the means of all channels decide."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """N x channels x h x w -> the same."""
        means = x.mean((2, 3), keepdim=True)
        factors: Tensor = self.fc2(F.silu(self.fc1(means))).sigmoid()
        return x * factors


class Bottleneck(nn.Module):
    """RegNet's bottleneck with a depthwise convolution (timm's `Bottleneck`, group size 1)."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inner, outer)
        self.conv2 = ConvNorm(outer, outer, kernel=3, groups=outer)
        self.se = SqueezeExcite(outer, round(inner / 4))
        self.conv3 = ConvNorm(outer, outer)
        self.downsample = ConvNorm(inner, outer) if inner != outer else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """N x inner x h x w -> N x outer x h x w."""
        hidden = F.silu(self.conv2(F.silu(self.conv1(x))))
        return F.silu(self.conv3(self.se(hidden)) + self.downsample(x))


def _stage(depth: int, inner: int, outer: int) -> nn.Sequential:
    """timm's RegStage, in which blocks are called b1, b2, ..."""
    blocks = [Bottleneck(inner if number == 0 else outer, outer) for number in range(depth)]
    return nn.Sequential(OrderedDict((f"b{n}", block) for n, block in enumerate(blocks, start=1)))


def mlp(inner: int, hidden: int, outer: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inner, hidden), nn.GELU(), nn.Linear(hidden, outer))


class Projector(nn.Module):
    """The three branches, each from the same patches."""

    def __init__(self, kind: ConnectorSizes, inner: int, outer: int) -> None:
        super().__init__()
        for name in ("video", "body"):
            sampler = nn.Conv3d(outer, outer, 2, stride=(1, 2, 2), padding=kind.padding)
            self.add_module(f"s1_{name}", _stage(kind.depth, inner, outer))
            self.add_module(f"sampler_{name}", nn.Sequential(sampler, nn.SiLU()))
            self.add_module(f"s2_{name}", _stage(kind.depth, outer, outer))
            self.add_module(f"readout_{name}", mlp(outer, outer, outer))
        self.mlp_2xgelu_face = mlp(inner, outer, outer)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """T x side^2 x inner -> video, body and face, each T x ceil(side / 2)^2 x outer."""
        grid = _grid(patches)
        face = _grid(self.mlp_2xgelu_face(patches))
        halved = F.interpolate(face, size=(half(face.shape[-1]),) * 2, mode="bilinear")
        return self._sample("video", grid), self._sample("body", grid), _patches(halved)

    def _sample(self, name: str, grid: Tensor) -> Tensor:
        """T x inner x side x side -> T x (side / 2)^2 x outer."""
        x = self.get_submodule(f"s1_{name}")(grid).transpose(0, 1)[None]
        x = self.get_submodule(f"sampler_{name}")(x)[0].transpose(0, 1)
        # Padded at both ends, T frames give T + 1; the one that would look beyond the end goes.
        x = self.get_submodule(f"s2_{name}")(x[:-1])
        sampled: Tensor = self.get_submodule(f"readout_{name}")(_patches(x))
        return sampled


def _grid(patches: Tensor) -> Tensor:
    """T x side^2 x width -> T x width x side x side."""
    side = math.isqrt(patches.shape[1])
    return patches.transpose(1, 2).unflatten(2, (side, side))


def _patches(grid: Tensor) -> Tensor:
    return grid.flatten(2).transpose(1, 2)


def half(side: int) -> int:
    return math.ceil(side / 2)


def compress(vectors: Tensor) -> Tensor:
    """T x side^2 x width -> N x width: all frames pooled 2 x 2, then some frames as they are."""
    fast = _patches(F.avg_pool2d(_grid(vectors), 2)).flatten(0, 1)
    return torch.cat([fast, vectors[slow(len(vectors))].flatten(0, 1)])


def slow(frames: int) -> list[int]:
    """The frames that the compressor keeps at full size."""
    return list(range(1, frames, _SLOW)) or [0]
