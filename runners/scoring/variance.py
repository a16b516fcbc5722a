"""How far a figure varies beside the clips: seeds of the extractor, seeds of the generation.

Intervals over clips say what other clips would change. What a rerun would change is the spread
over readings (the same descriptions, labels by another seed of the extractor) and over runs that
differ in their generation seed alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from ovmer.runners.scoring.intervals import t_quantile


@dataclass(frozen=True)
class VarianceParts:
    """Standard deviations of one figure; None where there is nothing to tell it from."""

    clip: float
    """Standard error over clips."""
    generation: float | None
    label: float | None


def variance_parts(figures: Sequence[Sequence[float]], clip_error: float) -> VarianceParts:
    """Split a figure's variance: `figures` holds, per generation seed, those of its readings.

    One-way random effects (Searle, Casella and McCulloch 1992, ch. 3): label seeds vary within,
    generation seeds between; a negative estimate is 0.
    """
    within = [(variance(each), len(each) - 1) for each in figures if len(each) > 1]
    degrees = sum(df for _, df in within)
    label = sum(part * df for part, df in within) / degrees if degrees else None
    generation = None
    if len(figures) > 1:
        between = variance([fmean(each) for each in figures])
        share = fmean([1 / len(each) for each in figures])
        generation = max(0.0, between - (label or 0.0) * share)
    return VarianceParts(clip_error, _root(generation), _root(label))


def rerun_half_width(spread: float, readings: int, confidence: float = 0.95) -> float:
    """One more reading falls so far from the mean of those at hand: t s sqrt(1 + 1 / r).

    The prediction interval of a normal sample (Hahn and Meeker 1991, 4.7). NaN of fewer than two.
    """
    if readings < 2:
        return math.nan
    t = t_quantile((1 + confidence) / 2, readings - 1)
    return t * spread * math.sqrt(1 + 1 / readings)


def _root(value: float | None) -> float | None:
    return None if value is None else math.sqrt(value)
