"""Scores and comparisons as text to read and as csv to work with."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

from ovmer.runners.scoring.compare import Comparison
from ovmer.runners.scoring.result import Rows, Scores

_MARK = "*"


def score_text(scores: Scores) -> str:
    """A table in percent, and below it whatever a reader of the figures must know."""
    mark = "" if scores.comparable else _MARK
    body = [
        [
            name + mark,
            _percent(value),
            _interval(low, high),
            _percent(precision),
            _percent(recall),
            "" if counted is None else counted,
        ]
        for name, value, low, high, precision, recall, counted in scores.rows()[1:]
    ]
    header = ["figure", "%", f"{100 * scores.confidence:g} % interval", "precision", "recall", "n"]
    used = [i for i in range(len(header)) if any(row[i] != "" for row in body)]
    # The primary figure, which tables show, comes first.
    body.sort(key=lambda row: row[0] != scores.primary + mark)
    table = tabulate(
        [[row[i] for i in used] for row in body],
        [header[i] for i in used],
        colalign=["left", *["right"] * (len(used) - 1)],
        disable_numparse=True,
    )
    title = f"{scores.metric}: {scores.n_clips} clips, {scores.n_counted} of them count"
    return "\n".join([title, "", table, "", *_notes(scores)])


def _notes(scores: Scores) -> list[str]:
    notes = [f"- {note}" for note in scores.notes]
    return notes if scores.comparable else [f"{_MARK} not comparable with papers", *notes]


def compare_text(
    runs: Mapping[str, Scores], comparisons: Sequence[Comparison], figure: str, confidence: float
) -> str:
    """Each run's figure, then the differences with interval and p values."""
    marked = all(scores.comparable for scores in runs.values())
    first = tabulate(
        [[name, _percent(scores.figures[figure])] for name, scores in runs.items()],
        ["run", figure + ("" if marked else _MARK)],
        colalign=["left", "right"],
        disable_numparse=True,
    )
    body = [
        [
            f"{each.first} - {each.second}",
            f"{100 * each.difference:+.2f}",
            _interval(*each.interval),
            f"{each.p:.4f}",
            f"{each.p_corrected:.4f}",
        ]
        for each in comparisons
    ]
    header = ["difference", "points", f"{100 * confidence:g} % interval", "p", "p (Holm)"]
    second = tabulate(body, header, colalign=["left", *["right"] * 4], disable_numparse=True)
    return "\n".join([first, "", second, "", *_notes_of_many(runs)])


def _notes_of_many(runs: Mapping[str, Scores]) -> list[str]:
    """What holds for all runs, then what holds for some of them."""
    alike = [
        note
        for note in _notes(next(iter(runs.values())))
        if all(note in _notes(scores) for scores in runs.values())
    ]
    own = [
        f"- {name}: {note.removeprefix('- ')}"
        for name, scores in runs.items()
        for note in _notes(scores)
        if note not in alike
    ]
    return alike + own


def _percent(value: float | None) -> str:
    if value is None:
        return ""
    return "undefined" if math.isnan(value) else f"{100 * value:.2f}"


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    return "undefined" if math.isnan(low) else f"{100 * low:.2f} .. {100 * high:.2f}"


def write_tables(folder: str | Path, tables: Mapping[str, Rows]) -> list[Path]:
    """Write each table to FOLDER/NAME.csv; returns the paths. Raises OSError."""
    root = Path(folder).expanduser()
    root.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, rows in tables.items():
        path = root / f"{name}.csv"
        with path.open("w", encoding="utf-8", newline="", errors="replace") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        paths.append(path)
    return paths
