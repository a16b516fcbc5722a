"""One pair of runs: the paired permutation test, which swaps the two runs on random clips.

If the runs do not differ, each clip's two results are exchangeable, so the null distribution is
exact whatever the figure (Fisher 1935; Good 2005, 3.4). Where few clips differ, all patterns are
enumerated: then p is that of the exact sign test or larger.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ovmer.runners.scoring.resampling import Contributions, FloatArray

Statistic = Callable[[FloatArray], FloatArray]
"""Column sums (... x columns) -> one figure, of shape (...)."""

EXACT = 13
"""So many differing clips or fewer are enumerated: 8,192 patterns."""
_BLOCK = 1 << 22
_SAME = 1e-12  # two differences that are the same but for rounding


@dataclass(frozen=True)
class SwapTest:
    """Whether two runs differ in one figure."""

    p: float
    """Two-sided."""
    differing: int
    """The clips to which the runs do not contribute alike."""


def differing_clips(first: Contributions, second: Contributions) -> int:
    return int(np.count_nonzero((first.values != second.values).any(axis=1)))


def swap_test(
    first: Contributions,
    second: Contributions,
    statistic: Statistic,
    replicates: int = 10_000,
    seed: int = 0,
) -> SwapTest:
    """Test two runs over the same clips; clips of one cluster are swapped together."""
    scale = first.scale(first.values, second.values)
    ours, theirs = (first.unit_sums(np.rint(each.values * scale)) for each in (first, second))
    change = ours - theirs
    change = change[change.any(axis=1)]
    differing = differing_clips(first, second)
    if not len(change):
        return SwapTest(1.0, differing)
    total_ours, total_theirs = ours.sum(axis=0), theirs.sum(axis=0)

    def differences(swapped: FloatArray) -> FloatArray:
        moved = swapped @ change
        found = statistic((total_ours - moved) / scale) - statistic((total_theirs + moved) / scale)
        return np.abs(found)

    observed = differences(np.zeros((1, len(change))))[0]
    if np.isnan(observed):
        return SwapTest(float("nan"), differing)
    exact = len(change) <= EXACT
    patterns = _all_patterns(len(change)) if exact else _patterns(len(change), replicates, seed)
    # An undefined difference counts as a large one: that is the safe side.
    reached = sum(np.count_nonzero(~(differences(each) < observed - _SAME)) for each in patterns)
    p = reached / 2 ** len(change) if exact else (1 + reached) / (replicates + 1)
    return SwapTest(float(p), differing)


def _all_patterns(units: int) -> Iterator[FloatArray]:
    yield (np.arange(2**units)[:, None] >> np.arange(units) & 1).astype(float)


def _patterns(units: int, replicates: int, seed: int) -> Iterator[FloatArray]:
    """Random patterns, (some x units) of 0 and 1."""
    random = np.random.Generator(np.random.PCG64(seed))
    block = max(1, _BLOCK // units)
    for start in range(0, replicates, block):
        shape = (min(block, replicates - start), units)
        yield random.integers(0, 2, size=shape, dtype=np.int8).astype(float)
