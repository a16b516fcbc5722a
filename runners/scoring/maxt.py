"""All pairs of runs at once: the step-down maxT of Westfall and Young on paired resamples.

Pairs are tested from the largest studentised difference down, each against the distribution of the
largest among those that remain, so the resamples' own correlation between pairs is used and the
least p is 1 / (replicates + 1), however many pairs there are (Westfall and Young 1993, algorithm
2.8; Ge, Dudoit and Speed 2003, box 2). docs/statistics.md holds formulas and what was simulated.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ovmer.runners.scoring.resampling import FloatArray, Indices

_BLOCK = 1 << 22
"""Studentised differences held at once, 32 MB."""


@dataclass(frozen=True)
class PairTests:
    """One entry a pair (first < second), in the order of `numpy.triu_indices`."""

    first: Indices
    second: Indices
    difference: FloatArray
    error: FloatArray
    """Standard error of the difference."""
    p_alone: FloatArray
    """Of each pair by itself."""
    p: FloatArray
    """Of all pairs together: the chance that any of them is marked where none differs."""
    critical: float
    """difference +- critical * error holds for all pairs at once."""


def step_down(
    figures: FloatArray, drawn: FloatArray, units: int, confidence: float = 0.95
) -> PairTests:
    """Test every pair of runs.

    `figures` (runs) are their values, `drawn` (runs x replicates) those on resamples that all runs
    share, `units` the number of clips, or clusters, that were drawn. Undefined replicates are left
    out of the largest; `figures` must be defined.
    """
    first, second = np.triu_indices(len(figures), 1)
    difference = figures[first] - figures[second]
    spread = _spreads(drawn)
    error = spread * np.sqrt(units / max(units - 1, 1))
    observed = _normal(np.abs(difference), error, units - 1)
    order = np.argsort(-observed, kind="stable")
    reached, alone, largest = np.zeros(len(order)), np.zeros(len(order)), []
    for block in _studentised(drawn, difference, spread):
        alone += np.count_nonzero(block >= observed[:, None], axis=1)
        falling = np.maximum.accumulate(block[order][::-1], axis=0)[::-1]
        reached += np.count_nonzero(falling >= observed[order, None], axis=1)
        largest.append(falling[0])
    replicates = drawn.shape[1]
    p = np.empty(len(order))
    p[order] = np.maximum.accumulate((1 + reached) / (replicates + 1))
    critical = _student(float(np.quantile(np.concatenate(largest), confidence)), units - 1)
    return PairTests(first, second, difference, error, (1 + alone) / (replicates + 1), p, critical)


def _spreads(drawn: FloatArray) -> FloatArray:
    """(pairs): the standard deviation of each pair's difference over the replicates."""
    spreads = [np.nanstd(each - drawn[i + 1 :], axis=1) for i, each in enumerate(drawn[:-1])]
    return np.concatenate(spreads)


def _studentised(
    drawn: FloatArray, difference: FloatArray, spread: FloatArray
) -> Iterator[FloatArray]:
    """Blocks of |replicate - difference| / spread, (pairs x some replicates); 0 if undefined."""
    first, second = np.triu_indices(len(drawn), 1)
    block = max(1, _BLOCK // len(first))
    # Twin runs have no spread, and their difference is that of every replicate.
    scale = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0)
    for start in range(0, drawn.shape[1], block):
        part = drawn[:, start : start + block]
        away = part[first]
        away -= part[second]
        away -= difference[:, None]
        away *= scale[:, None]
        yield np.nan_to_num(np.abs(away, out=away), copy=False, nan=0.0)


def _normal(difference: FloatArray, error: FloatArray, df: int) -> FloatArray:
    """Studentised differences as normal ones of the same tail: replicates have a known error."""
    from scipy.special import ndtri, stdtr

    student = np.divide(
        difference, error, out=np.where(difference > 0, np.inf, 0.0), where=error > 0
    )
    return np.asarray(-ndtri(stdtr(df, -student)))


def _student(normal: float, df: int) -> float:
    """The other way round."""
    from scipy.special import ndtr, stdtrit

    return float(-stdtrit(df, ndtr(-normal)))
