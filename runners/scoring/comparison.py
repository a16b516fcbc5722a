"""A comparison of runs (`significance.RunComparison`) as text and as rows to write."""

import math
from collections.abc import Mapping, Sequence

from tabulate import tabulate

from ovmer.runners.scoring.result import Rows, Scores, percent, percent_interval
from ovmer.runners.scoring.significance import PairComparison, RunComparison

_MANY_PAIRS = "of all pairs"


def comparison_rows(pairs: Sequence[PairComparison]) -> Rows:
    """The pairs as a table with a header; figures in [0, 1]."""
    header = (
        "first second difference low high all_low all_high p p_all p_equivalent differing_clips"
    )
    return [
        header.split(),
        *(
            [
                each.first,
                each.second,
                each.difference,
                *each.interval,
                *each.simultaneous,
                each.p_alone,
                each.p,
                each.p_equivalent,
                each.differing,
            ]
            for each in pairs
        ),
    ]


def conclusion(pair: PairComparison, family: RunComparison) -> str:
    """The conclusion of a pair's test, in a few words."""
    if math.isnan(pair.p):
        return "not tested"
    if not pair.differing:
        return "the same in every clip"
    if pair.p < family.alpha:
        return f"{family.better(pair)} is better"
    if pair.p_equivalent < family.alpha:
        return f"equivalent within {100 * family.margin:g} points"
    return "no clear difference"


def comparison_text(
    runs: Mapping[str, Scores], family: RunComparison, pairs: Sequence[PairComparison] | None = None
) -> str:
    """Each run's figure and ranks, then the pairs, then what a reader must know of them."""
    shown = family.pairs if pairs is None else pairs
    lines = [_runs_table(runs, family), "", _pairs_table(shown, family), ""]
    notes = [*family.notes, detectable(family), *explanations(family)]
    lines += [f"- {note}" for note in notes if note]
    return "\n".join([*lines, *_run_notes(runs)])


def explanations(family: RunComparison) -> list[str]:
    """How to read the numbers, for whoever sees them without the documentation."""
    if not family.pairs or math.isnan(family.pairs[0].p):
        return []
    k, pairs = len(family.best), len(family.pairs)
    lines = [
        "p of a pair alone: the two runs are swapped at random on each clip (paired permutation "
        "test); the clips on which they score alike say nothing there, so their number is given",
        f"equivalent: two one-sided tests against {100 * family.margin:g} points or more",
    ]
    if pairs > 1:
        lines += [
            f"p {_MANY_PAIRS}: corrected for all {pairs} (step-down maxT on paired resamples); "
            "intervals of a difference hold for all of them at once",
            f"ranks: every rank of the {k} runs that these tests leave open; best in: the share of "
            f"{family.replicates:,} resamples in which a run comes first",
        ]
        if family.units < 200:
            lines.append(
                f"over as few as {family.units} clips the correction can be a little liberal: in "
                "simulations of equal runs up to 7 in 100 boards bore a mark, where 5 are meant"
            )
    return lines


def detectable(family: RunComparison) -> str:
    """The smallest difference that the clips can show; empty if there is no test."""
    if math.isnan(family.detectable):
        return ""
    return (
        f"two runs that are {100 * family.detectable:.1f} points of {family.figure} apart would be "
        "detected in four of five tests of a pair alone; smaller differences will mostly be "
        f"missed on {family.clips:,} clips"
    )


def _runs_table(runs: Mapping[str, Scores], family: RunComparison) -> str:
    comparable = all(scores.comparable for scores in runs.values())
    header = ["run", family.figure + ("" if comparable else "*"), "ranks", "best in"]
    body = [
        [name, percent(value), rank_text(family, name), _share(family.best.get(name))]
        for name, value in family.figures.items()
    ]
    return tabulate(
        body, header, colalign=["left", *["right"] * (len(header) - 1)], disable_numparse=True
    )


def rank_text(family: RunComparison, name: str) -> str:
    """`2 to 5`, `1`, or nothing where there is no test."""
    low, high = family.ranks.get(name, (0, 0))
    if not low:
        return ""
    return f"{low}" if low == high else f"{low} to {high}"


def _pairs_table(pairs: Sequence[PairComparison], family: RunComparison) -> str:
    is_one = len(family.pairs) == 1
    body = [
        [
            f"{each.first} - {each.second}",
            f"{100 * each.difference:+.2f}",
            percent_interval(*each.simultaneous),
            *([] if is_one else [p_text(each.p)]),
            p_text(each.p_alone),
            f"{each.differing:,}",
            p_text(each.p_equivalent),
            conclusion(each, family),
        ]
        for each in pairs
    ]
    header = ["difference", "points", f"{100 * family.confidence:g} % interval"]
    header += [] if is_one else [f"p {_MANY_PAIRS}"]
    header += ["p", "differ", "p equivalent", ""]
    columns = len(header)
    return tabulate(
        body,
        header,
        colalign=["left", *["right"] * (columns - 2), "left"],
        disable_numparse=True,
    )


def p_text(p: float) -> str:
    return "" if math.isnan(p) else f"{p:.4f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _run_notes(runs: Mapping[str, Scores]) -> list[str]:
    """The notes that all runs share, then each run's own."""
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
    return common + own
