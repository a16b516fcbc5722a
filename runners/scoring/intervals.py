"""Intervals of one run's figures: over clips, or over clusters of clips.

* Percentile bootstrap (Efron and Tibshirani 1993, ch. 13) in general.
* Wilson's score interval (1927, modified) for plain shares, and for whatever is exactly 0 or 1,
  where every resample says the same and the bootstrap has no width.
* Under 40 clusters: estimate +- t(K - 1) standard errors (Cameron, Gelbach and Miller 2008, 2.3).
  Of 3 or fewer clusters there is no interval.

docs/statistics.md says what they cover.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from ovmer.runners.scoring.resampling import Contributions, FloatArray

if TYPE_CHECKING:
    from ovmer.runners.scoring.result import Scores

Interval = tuple[float, float]
NO_INTERVAL: Interval = (math.nan, math.nan)

MOST_WITHOUT_INTERVAL = 3
"""Clusters of which so few give no interval."""
_FEW_CLUSTERS = 40
_FEW_CLIPS = 50


@dataclass
class Intervals:
    """The interval of each figure, and what a reader must know of them."""

    found: dict[str, Interval]
    notes: list[str] = field(default_factory=list)


def make_intervals(
    scores: "Scores", drawn: Mapping[str, FloatArray], confidence: float = 0.95
) -> Intervals:
    """The intervals of all figures from their values on resamples, each (replicates)."""
    sample = scores.contributions
    found = {}
    for name, value in scores.figures.items():
        share = _share(scores, name, value)
        if share is not None and not too_few_clusters(sample):
            found[name] = wilson(*share, confidence)
            continue
        low, high = interval_of(value, drawn[name], sample, confidence)
        is_bounded = name not in scores.unbounded
        found[name] = (max(low, 0.0), min(high, 1.0)) if is_bounded else (low, high)
    return Intervals(found, _notes(scores, drawn))


def interval_of(
    value: float, drawn: FloatArray, sample: Contributions, confidence: float = 0.95
) -> Interval:
    """The interval of one figure, or of a difference, from its values on resamples (replicates).

    Undefined replicates are left out; an undefined value has no interval.
    """
    if math.isnan(value) or np.isnan(drawn).all() or too_few_clusters(sample):
        return NO_INTERVAL
    if sample.clusters and sample.n_units < _FEW_CLUSTERS:
        half = t_quantile((1 + confidence) / 2, sample.n_units - 1)
        half *= standard_error(drawn, sample.n_units)
        return value - half, value + half
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def too_few_clusters(sample: Contributions) -> bool:
    return bool(sample.clusters) and sample.n_units <= MOST_WITHOUT_INTERVAL


def standard_error(drawn: FloatArray, units: int) -> float:
    """The standard deviation of the replicates, which is too small by (units - 1) / units."""
    return float(np.nanstd(drawn)) * math.sqrt(units / max(units - 1, 1))


def wilson(hits: float, of: float, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share (Wilson 1927), modified near 0 and 1.

    Where up to three clips are hits, or misses, Wilson's nearer end leaves out too much (coverage
    92 % for a share of 99 % of 100 clips): it is that of the Poisson there (Brown, Cai and DasGupta
    2001, 4.1.1).
    """
    if not of:
        return NO_INTERVAL
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, spread = hits / of, z * z / of
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / of + spread / of / 4)
    low, high = (middle - half) / (1 + spread), (middle + half) / (1 + spread)
    return _near_zero(hits, of, low, confidence), 1 - _near_zero(
        of - hits, of, 1 - high, confidence
    )


def _near_zero(hits: float, of: float, low: float, confidence: float) -> float:
    """The lower end for few hits."""
    from scipy.special import gammaincinv

    if hits == 0:
        return 0.0
    few = 3 if of > 50 else 2
    return float(gammaincinv(hits, 1 - confidence)) / of if hits <= few else low


def t_quantile(probability: float, df: float) -> float:
    """Quantile of Student's t; scipy.stats takes half a second to import."""
    from scipy.special import stdtrit

    return float(stdtrit(df, probability))


def _share(scores: "Scores", name: str, value: float) -> tuple[float, float] | None:
    """(hits, of how many), where the figure is a share of clips or has no spread at all."""
    sample = scores.contributions
    if name in scores.unbounded:
        return None
    if value in (0.0, 1.0):
        columns = dict(zip(sample.columns, sample.sums.tolist(), strict=True))
        of = columns.get(f"{name}/counted", scores.n_counted)
        of = min(of, sample.n_units) if sample.clusters else of
        return value * of, of
    if sample.clusters or scores.repeats or name not in scores.shares:
        return None
    hits, of = (math.fsum(sample.sums[list(at)]) for at in scores.shares[name])
    return hits, of


def _notes(scores: "Scores", drawn: Mapping[str, FloatArray]) -> list[str]:
    counted = scores.n_counted
    notes = []
    undefined = {name: int(np.isnan(each).sum()) for name, each in drawn.items()}
    some = [name for name, n in undefined.items() if n and not math.isnan(scores.figures[name])]
    if some:
        most = max(undefined[name] for name in some)
        notes.append(
            f"{', '.join(some[:3])}{' and others' * (len(some) > 3)}: undefined in up to {most:,} "
            f"of {len(drawn[some[0]]):,} resamples, which their intervals leave out"
        )
    sample = scores.contributions
    has_end = counted and scores.figures[scores.primary] in (0.0, 1.0)
    if has_end and not too_few_clusters(sample):
        end = "0 %" if scores.figures[scores.primary] == 0.0 else "100 %"
        units = f"{scores.cluster or 'cluster'}s" if sample.clusters else "clips"
        notes.append(f"{scores.primary} is {end}: the interval is Wilson's for the {units}")
    if 0 < counted < _FEW_CLIPS:
        few = "one clip counts" if counted == 1 else f"{counted} clips count"
        notes.append(f"only {few}: intervals are rough under {_FEW_CLIPS}")
    return notes + _cluster_notes(scores, drawn[scores.primary])


def _cluster_notes(scores: "Scores", drawn: FloatArray) -> list[str]:
    sample = scores.contributions
    if not sample.clusters:
        return []
    what = f"clips of one {scores.cluster or 'cluster'} are not independent"
    if too_few_clusters(sample):
        return [f"{what}, and {_only(sample.n_units)}: no interval"]
    method = ", by t" if sample.n_units < _FEW_CLUSTERS else ""
    effect = design_effect(scores, drawn)
    shown = "" if math.isnan(effect) else f"; design effect of {scores.primary} {effect:.2f}"
    return [f"{what}: intervals over {sample.n_units} of them{method}{shown}"]


def _only(number: int) -> str:
    return "there is only one" if number == 1 else f"there are only {number}"


def design_effect(scores: "Scores", drawn: FloatArray) -> float:
    """How many times the variance over clusters is that over clips (Kish 1965), primary figure."""
    sample = scores.contributions
    clips = Contributions(sample.clips, sample.columns, sample.values)
    apart = scores.aggregate(clips.resampled(1000))[scores.primary]
    ours, theirs = standard_error(drawn, sample.n_units), standard_error(apart, len(sample.clips))
    return (ours / theirs) ** 2 if theirs > 0 else math.nan
