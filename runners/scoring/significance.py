"""Are two runs different, or is it the luck of the clips? The paired bootstrap.

Both runs are scored on the same resamples of clips, so that what is hard for both cancels out.
The p value is two-sided and inverts the percentile interval: twice the smaller share of replicates
on either side of zero, each counted with one more so that it is never 0. Of several comparisons
the p values are corrected after Holm (1979).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from tabulate import tabulate

from ovmer.baselines.errors import PrerequisiteError, near
from ovmer.runners.scoring.result import FloatArray, Rows, Scores, percent, percent_interval


@dataclass(frozen=True)
class Comparison:
    """How much better the first run is than the second, in one figure."""

    first: str
    second: str
    difference: float
    interval: tuple[float, float]
    p: float
    p_corrected: float


def compare(
    runs: Mapping[str, Scores],
    figure: str | None = None,
    against: str | None = None,
    replicates: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[Comparison]:
    """Compare every pair of runs, or every run with the one called `against`, in one figure.

    Raises PrerequisiteError where runs cannot stand side by side: another metric, another edition,
    other clips.
    """
    first = _check(runs, figure, against)
    figure = figure or first.primary
    drawn = {
        name: scores.aggregate(scores.contributions.resampled(replicates, seed))[figure]
        for name, scores in runs.items()
    }
    figures = {name: scores.figures[figure] for name, scores in runs.items()}
    return compare_drawn(figures, drawn, against, confidence)


def compare_drawn(
    figures: Mapping[str, float],
    drawn: Mapping[str, FloatArray],
    against: str | None = None,
    confidence: float = 0.95,
) -> list[Comparison]:
    """The same from each run's figure and its values (replicates) on resamples common to all."""
    if against is None:
        pairs = list(combinations(figures, 2))
    else:
        pairs = [(name, against) for name in figures if name != against]
    tail = (1 - confidence) / 2
    found = []
    for one, other in pairs:
        differences = drawn[one] - drawn[other]
        low, high = np.quantile(differences, [tail, 1 - tail])
        p = _p_value(differences)
        difference = figures[one] - figures[other]
        found.append(Comparison(one, other, difference, (float(low), float(high)), p, p))
    corrected = holm([each.p for each in found])
    return [replace(each, p_corrected=p) for each, p in zip(found, corrected, strict=True)]


def _check(runs: Mapping[str, Scores], figure: str | None, against: str | None) -> Scores:
    """The first of runs that can stand side by side."""
    if len(runs) < 2:
        raise PrerequisiteError("a comparison needs two runs; give at least two")
    name, first = next(iter(runs.items()))
    for other, scores in runs.items():
        ours, theirs = (each.contributions.clips for each in (first, scores))
        if scores.metric != first.metric:
            what = f"metric ({first.metric} and {scores.metric})"
        elif scores.conditions != first.conditions:
            what = f"conditions ({dict(first.conditions)} and {dict(scores.conditions)})"
        elif ours != theirs:
            what = f"clips ({len(set(ours) ^ set(theirs))} are in one only; say missing=zero)"
        else:
            continue
        raise PrerequisiteError(f"{name} and {other} cannot be compared: they differ in {what}")
    if figure is not None and figure not in first.figures:
        raise PrerequisiteError(f"there is no figure {figure!r}; {near(figure, first.figures)}")
    if against is not None and against not in runs:
        raise PrerequisiteError(f"against={against} is none of the runs; {near(against, runs)}")
    return first


def _p_value(differences: FloatArray) -> float:
    if np.isnan(differences).any():
        return float("nan")
    below, above = np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0)
    return min(1.0, 2 * (min(below, above) + 1) / (len(differences) + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p values, in the given order; NaN stays."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected = list(p_values)
    least = 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = least if p_values[i] == p_values[i] else p_values[i]
    return corrected


def comparison_rows(comparisons: Sequence[Comparison]) -> Rows:
    """As a table with a header."""
    header = ["first", "second", "difference", "low", "high", "p", "p_corrected"]
    return [
        header,
        *(
            [each.first, each.second, each.difference, *each.interval, each.p, each.p_corrected]
            for each in comparisons
        ),
    ]


def compare_text(
    runs: Mapping[str, Scores], comparisons: Sequence[Comparison], figure: str, confidence: float
) -> str:
    """Each run's figure, then the differences with interval and p values."""
    comparable = all(scores.comparable for scores in runs.values())
    first = tabulate(
        [[name, percent(scores.figures[figure])] for name, scores in runs.items()],
        ["run", figure + ("" if comparable else "*")],
        colalign=["left", "right"],
        disable_numparse=True,
    )
    body = [
        [
            f"{each.first} - {each.second}",
            f"{100 * each.difference:+.2f}",
            percent_interval(*each.interval),
            f"{each.p:.4f}",
            f"{each.p_corrected:.4f}",
        ]
        for each in comparisons
    ]
    header = ["difference", "points", f"{100 * confidence:g} % interval", "p", "p (Holm)"]
    second = tabulate(body, header, colalign=["left", *["right"] * 4], disable_numparse=True)
    notes = {name: scores.note_lines() for name, scores in runs.items()}
    common = [
        note for note in next(iter(notes.values())) if all(note in each for each in notes.values())
    ]
    own = [
        f"- {name}: {note.removeprefix('- ')}"
        for name, lines in notes.items()
        for note in lines
        if note not in common
    ]
    return "\n".join([first, "", second, "", *common, *own])
