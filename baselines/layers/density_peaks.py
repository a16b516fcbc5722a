"""Merging of tokens by density peaks over nearest neighbours (DPC-KNN); nothing in it is learned.

The method is TCFormer's (Zeng et al., 2022, arXiv 2204.08680, section 3.2) as Chat-UniVi uses it
(`ChatUniVi/model/cluster.py`). A token is a likely centre if its neighbourhood is dense and the
next denser token is far. Merged tokens are in order, the one with the likeliest centre first.

Which token is a centre follows from comparisons of float32 numbers that may differ in their last
digits only. So distances, densities and ranks are computed with upstream's operations one by one
(`cdist` in its default mode, `topk` with its own order among equals).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

Draw = Callable[[int, int], Tensor]
"""(rows, columns) -> numbers uniform in [0, 1): the noise of one clustering."""

_NOISE = 1e-6  # added to densities, so that no two are equal
_EMPTY = 1e-6  # added to the sizes of clusters; shrinks the mean tokens a little


def uniform(seed: int) -> Draw:
    """Draws from a stream of its own on the CPU, the same on every device."""
    stream = torch.Generator().manual_seed(seed)
    return lambda rows, columns: torch.rand(rows, columns, generator=stream)


class TokenMerging(nn.Module):
    """Tokens [B, N, C] -> (merged tokens [B, M, C], cluster of each token [B, N]).

    `rate` is the number of clusters M if above 1, else their share of N, rounded up. Density is
    measured over `neighbours`, or over fewer where there are fewer clusters than these.
    """

    def __init__(self, rate: float, neighbours: int) -> None:
        super().__init__()
        self.rate = rate
        self.neighbours = neighbours

    def count(self, tokens: int) -> int:
        """Number of tokens left after merging."""
        return int(self.rate) if self.rate > 1 else math.ceil(tokens * self.rate)

    def forward(self, tokens: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        count = self.count(tokens.shape[1])
        k = self.neighbours if self.neighbours <= count else min(3, max(count // 2, 1))
        clusters = density_peaks(tokens, count, k, draw)
        return mean_tokens(tokens, clusters, count), clusters


def density_peaks(tokens: Tensor, count: int, k: int, draw: Draw) -> Tensor:
    """The cluster [B, N] of each token [B, N, C]; cluster 0 has the likeliest centre."""
    rows, columns, width = tokens.shape
    distance = torch.cdist(tokens.float(), tokens.float()) / width**0.5
    nearest = distance.topk(k, dim=-1, largest=False).values  # the token itself among them
    noise = draw(rows, columns).to(distance)
    density = (-(nearest**2).mean(dim=-1)).exp() + noise * _NOISE

    denser = density[:, None, :] > density[:, :, None]
    farthest = distance.amax(dim=(1, 2), keepdim=True)
    to_denser = distance.where(denser, farthest).amin(dim=-1)

    centres = (to_denser * density).topk(count, dim=-1).indices
    to_centres = distance.gather(1, centres[..., None].expand(-1, -1, columns))
    # A centre is of its own cluster, even if another centre has the same coordinates.
    own = torch.arange(count, device=centres.device).expand(rows, -1)
    return to_centres.argmin(dim=1).scatter(1, centres, own)


def mean_tokens(tokens: Tensor, clusters: Tensor, count: int) -> Tensor:
    """[B, N, C] and the cluster of each token -> the mean of each cluster [B, M, C].

    As a product of matrices: upstream's `index_add` gives another sum on each run of a GPU.
    """
    members = one_hot(clusters, count).transpose(1, 2).to(tokens)
    return members / (members.sum(dim=-1, keepdim=True) + _EMPTY) @ tokens
