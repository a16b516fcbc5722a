"""Tests of the differences between runs: all pairs of a set of runs, tested together.

`compare` takes scores, `compare_contributions` what each clip contributes. Leaderboards, the
comparison view, tables and `ovmer compare` all read the same `RunComparison`. docs/statistics.md
says what each number covers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import NormalDist

import numpy as np

from ovmer.runners.scoring.alignment import check_comparable, in_same_clusters, on_common_clips
from ovmer.runners.scoring.intervals import (
    NO_INTERVAL,
    Interval,
    interval_of,
    too_few_clusters,
)
from ovmer.runners.scoring.maxt import PairTests, step_down
from ovmer.runners.scoring.resampling import Contributions, FloatArray, replicates_for, resample
from ovmer.runners.scoring.result import Scores, mean_aggregate
from ovmer.runners.scoring.swap import EXACT, Statistic, differing_clips, swap_test

MARGIN = 0.005
"""Of equivalence: half a point to each side."""
_POWER = 0.8
_SWAPS, _SWAPS_OF_MANY = 10_000, 2000
"""Permutations of the only pair, and of each of several."""
_WORK = 5e9
"""Multiplications that the permutations of all pairs may take: a few seconds."""


@dataclass(frozen=True)
class PairComparison:
    """Difference of the first run from the second; NaN where there is no test."""

    first: str
    second: str
    difference: float
    interval: Interval
    """Of this pair by itself."""
    simultaneous: Interval
    """Holds for all pairs at once."""
    p_alone: float
    """Of this pair by itself: the paired permutation test (over many clips of many runs, where that
    would take minutes and is no other, the bootstrap)."""
    p: float
    """Of all pairs together (step-down maxT), never below `p_alone`."""
    p_equivalent: float
    """That the runs differ by the margin or more (two one-sided tests)."""
    differing: int
    """Clips to which the runs do not contribute alike."""

    def turned(self) -> "PairComparison":
        """The second run less the first."""
        (low, high), (least, most) = self.interval, self.simultaneous
        return replace(
            self,
            first=self.second,
            second=self.first,
            difference=-self.difference,
            interval=(-high, -low),
            simultaneous=(-most, -least),
        )


@dataclass(frozen=True)
class RunComparison:
    """Runs over the same clips in one figure, and all their pairs."""

    figure: str
    figures: Mapping[str, float]
    """The best first; the undefined ones, which are compared with none, last."""
    pairs: tuple[PairComparison, ...]
    best: Mapping[str, float]
    """The share of resamples in which each run is the best."""
    error: float
    """The median standard error of a difference between two runs."""
    clips: int
    units: int
    """Clips, or clusters of clips, that were drawn."""
    replicates: int
    confidence: float
    margin: float = MARGIN
    notes: tuple[str, ...] = field(default=())
    is_error: bool = False
    """Whether less of the figure is better."""

    def better(self, pair: PairComparison) -> str:
        """The run of a pair whose figure is the better one."""
        return pair.first if (pair.difference > 0) != self.is_error else pair.second

    @property
    def alpha(self) -> float:
        return 1 - self.confidence

    def pair(self, first: str, second: str) -> PairComparison | None:
        """The first run less the second; None where they were not compared."""
        found = self._pairs.get((first, second))
        if found is None and (other := self._pairs.get((second, first))):
            return other.turned()
        return found

    @cached_property
    def _pairs(self) -> dict[tuple[str, str], PairComparison]:
        return {(each.first, each.second): each for each in self.pairs}

    @cached_property
    def ranks(self) -> dict[str, tuple[int, int]]:
        """The ranks that each run may have: from 1 + the runs that are better to k - those worse.

        They hold for all runs at once (Mogstad, Romano, Shaikh and Wilhelm 2024). Empty where there
        is no test.
        """
        compared = [name for name in self.figures if name in self.best]
        better, worse = dict.fromkeys(compared, 0), dict.fromkeys(compared, 0)
        for each in self.pairs:
            if math.isnan(each.p):
                return {}
            if each.p < self.alpha:
                ahead = self.better(each)
                worse[ahead] += 1
                better[each.second if ahead == each.first else each.first] += 1
        return {name: (1 + better[name], len(compared) - worse[name]) for name in compared}

    @property
    def detectable(self) -> float:
        """The difference that a test of two runs finds in four of five cases; NaN without pairs."""
        normal = NormalDist()
        return (normal.inv_cdf(1 - self.alpha / 2) + normal.inv_cdf(_POWER)) * self.error


def compare(
    runs: Mapping[str, Scores],
    figure: str | None = None,
    *,
    missing: str = "error",
    replicates: int | None = None,
    seed: int = 0,
    confidence: float = 0.95,
    margin: float = MARGIN,
) -> RunComparison:
    """Compare every pair of runs in one figure (by default the metric's primary one).

    With missing=skip, runs over different clips are compared on those that all have.

    Raises PrerequisiteError if runs are not comparable: another metric, other conditions
    such as the vocabulary's edition, other clips.
    """
    first = check_comparable(runs, figure)
    runs, notes = on_common_clips(in_same_clusters(runs), missing)
    chosen = figure or first.primary
    family = compare_contributions(
        {name: _counting(each) for name, each in runs.items()},
        mean_statistic(first, chosen),
        chosen,
        replicates=replicates,
        seed=seed,
        confidence=confidence,
        margin=margin,
        is_error=chosen in first.errors,
    )
    return replace(family, notes=(*notes, *family.notes))


def _counting(scores: Scores) -> Contributions:
    """Its contributions; undefined ones, and with them its figures, where no clip counts."""
    sample = scores.contributions
    return (
        sample
        if scores.n_counted
        else replace(sample, values=np.full_like(sample.values, math.nan))
    )


def mean_statistic(scores: Scores, figure: str) -> Statistic:
    """Column sums -> the figure, for as many readings side by side as the sums hold."""
    readings = max(1, len(scores.repeats))
    width = len(scores.contributions.columns) // readings
    aggregate = scores.aggregate if readings > 1 else mean_aggregate(scores.aggregate, width)
    return lambda sums: aggregate(sums)[figure]


def compare_contributions(
    runs: Mapping[str, Contributions],
    statistic: Statistic,
    figure: str = "",
    *,
    drawn: Mapping[str, FloatArray] | None = None,
    replicates: int | None = None,
    seed: int = 0,
    confidence: float = 0.95,
    margin: float = MARGIN,
    is_error: bool = False,
) -> RunComparison:
    """Compare every pair of runs from what each clip contributes to a figure.

    All runs hold the same clips in the same clusters. `statistic` turns column sums (... x columns)
    into the figure (...), be it a mean, an F or a kappa. `drawn` are the figures on resamples
    (replicates) where the caller has drawn them already; `is_error` says that less is better.
    """
    first = next(iter(runs.values()))
    unsorted = ((name, float(statistic(each.sums))) for name, each in runs.items())
    sign = -1 if is_error else 1
    figures = dict(sorted(unsorted, key=lambda pair: (math.isnan(pair[1]), -sign * pair[1])))
    defined = [name for name, value in figures.items() if not math.isnan(value)]
    if drawn is None:
        replicates = replicates_for(first.n_units, replicates)
        sums = resample(list(runs.values()), replicates, seed)
        drawn = {name: statistic(each) for name, each in zip(runs, sums, strict=True)}
    values = np.array([drawn[name] for name in defined])
    count = len(next(iter(drawn.values())))
    family = RunComparison(
        figure,
        figures,
        (),
        _shares_best(defined, sign * values),
        math.nan,
        len(first.clips),
        first.n_units,
        count,
        confidence,
        margin,
        tuple(_notes(first, figures, defined)),
        is_error,
    )
    if len(defined) < 2:
        return family
    tests = step_down(
        np.array([figures[name] for name in defined]), values, first.n_units, confidence
    )
    swaps = _SwapTests({name: runs[name] for name in defined}, statistic, seed)
    made = tuple(
        _pair(family, i, tests, defined, values, swaps, first) for i in range(len(tests.p))
    )
    return replace(family, pairs=made, error=float(np.median(tests.error)))


def _pair(
    family: RunComparison,
    index: int,
    tests: PairTests,
    names: Sequence[str],
    drawn: FloatArray,
    swaps: "_SwapTests",
    sample: Contributions,
) -> PairComparison:
    """The comparison of one pair."""
    i, j = int(tests.first[index]), int(tests.second[index])
    difference, error = float(tests.difference[index]), float(tests.error[index])
    differing, swapped = swaps.test(names[i], names[j])
    if too_few_clusters(sample):
        none = math.nan
        return PairComparison(
            names[i], names[j], difference, NO_INTERVAL, NO_INTERVAL, none, none, none, differing
        )
    alone = float(tests.p_alone[index]) if swapped is None else swapped
    together = alone if len(tests.p) == 1 else max(alone, float(tests.p[index]))
    interval = interval_of(difference, drawn[i] - drawn[j], sample, family.confidence)
    half = tests.critical * error
    simultaneous = difference - half, difference + half
    return PairComparison(
        names[i],
        names[j],
        difference,
        interval,
        interval if len(tests.p) == 1 else simultaneous,
        alone,
        together,
        _p_equivalent(difference, error, family, sample.n_units),
        differing,
    )


def _p_equivalent(difference: float, error: float, family: RunComparison, units: int) -> float:
    """The larger p of two one-sided t tests (Schuirmann 1987)."""
    from scipy.special import stdtr

    least = 1 / (family.replicates + 1)
    room = family.margin - abs(difference)
    if error == 0:
        return least if room > 0 else 1.0
    return max(least, float(stdtr(units - 1, -room / error)))


class _SwapTests:
    """The permutation tests of all pairs, as far as they can be afforded."""

    def __init__(self, runs: Mapping[str, Contributions], statistic: Statistic, seed: int) -> None:
        self._runs, self._statistic, self._seed = runs, statistic, seed
        pairs = len(runs) * (len(runs) - 1) // 2
        self._replicates = _SWAPS if pairs == 1 else _SWAPS_OF_MANY
        sizes = [each.values.size for each in runs.values()]
        self._is_cheap = pairs == 1 or pairs * self._replicates * max(sizes) <= _WORK

    def test(self, one: str, other: str) -> tuple[int, float | None]:
        """(clips that differ, p); no p where it would take long and many clips differ."""
        first, second = _same_readings(self._runs[one], self._runs[other])
        differing = differing_clips(first, second)
        if not self._is_cheap and differing > EXACT:
            return differing, None
        found = swap_test(first, second, self._statistic, self._replicates, self._seed)
        return differing, found.p


def _same_readings(
    first: Contributions, second: Contributions
) -> tuple[Contributions, Contributions]:
    """Repeat the readings of both up to the least common multiple.

    Their means stay the same, so a run with three readings can be swapped with one of two.
    """
    widths = [len(each.columns) for each in (first, second)]
    width = math.lcm(*widths)
    if widths[0] == widths[1]:
        return first, second
    return _repeated(first, width // widths[0]), _repeated(second, width // widths[1])


def _repeated(part: Contributions, times: int) -> Contributions:
    return replace(part, columns=part.columns * times, values=np.tile(part.values, (1, times)))


def _shares_best(names: Sequence[str], drawn: FloatArray) -> dict[str, float]:
    """The share of replicates in which each run is the best; ties are split."""
    if not names:
        return {}
    known = np.where(np.isnan(drawn), -np.inf, drawn)
    is_best = known == known.max(axis=0)
    shares = (is_best / is_best.sum(axis=0)).mean(axis=1)
    return dict(zip(names, shares.tolist(), strict=True))


def _notes(
    sample: Contributions, figures: Mapping[str, float], defined: Sequence[str]
) -> list[str]:
    notes = []
    undefined = [name for name in figures if name not in defined]
    if undefined:
        notes.append(
            f"its figure is undefined, so it is compared with none: {', '.join(undefined)}"
        )
    if too_few_clusters(sample):
        notes.append(f"the clips come from {sample.n_units} clusters only: no test, no interval")
    return notes
