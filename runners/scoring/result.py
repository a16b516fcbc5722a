"""What a metric returns: sums over clips from which every figure follows.

Each metric gives every clip a row of contributions (a precision, a hit, a true positive ...) and a
function from the column sums to its figures. The point figures, their bootstrap intervals and the
comparison of two runs are that one function on different sums, so F stays the F of the averages
in every replicate.

Guaranteed: figures do not depend on the order of clips (sums are exactly rounded, math.fsum) nor
on hash seeds; intervals do not depend on the platform either, because replicates sum contributions
that are rounded to multiples of a power of two, which double precision adds without error.
"""

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tabulate import tabulate

from ovmer.runners.foreign_text import guarded

if TYPE_CHECKING:
    from pandas import DataFrame

FloatArray = npt.NDArray[np.float64]
Aggregate = Callable[[FloatArray], dict[str, FloatArray]]
"""Column sums (... x columns) -> figures, each of shape (...)."""
Rows = list[list[Any]]
"""A table: the header, then its rows."""

_BLOCK = 1 << 23
"""Draws held at once, 64 MB. Over 8 MB two threads of OpenBLAS take five times as long."""
_MOST_LABELS, _LONGEST_LABEL = 50, 100  # of the unknown ones, and their characters, in JSON


@dataclass(frozen=True)
class Contributions:
    """What one run is worth, clip by clip."""

    clips: tuple[str, ...]
    """Sorted."""
    columns: tuple[str, ...]
    values: FloatArray
    """(clips x columns), each in [0, 1]."""

    @cached_property
    def sums(self) -> FloatArray:
        """The exactly rounded sum of each column."""
        return np.array([math.fsum(column) for column in self.values.T.tolist()])

    def resampled(self, replicates: int, seed: int) -> FloatArray:
        """Column sums (replicates x columns) over clips drawn with replacement.

        The draws depend on the seed, the number of replicates and the number of clips alone.
        """
        scale = 2.0 ** (52 - len(self.clips).bit_length())
        whole = np.rint(self.values * scale)
        blocks = [counts @ whole for counts in _resample_counts(len(self.clips), replicates, seed)]
        return np.concatenate(blocks) / scale


def _resample_counts(clips: int, replicates: int, seed: int) -> Iterator[FloatArray]:
    """How often each clip is drawn: blocks of replicates, (some x clips)."""
    random = np.random.Generator(np.random.PCG64(seed))
    block = max(1, _BLOCK // clips)
    for start in range(0, replicates, block):
        counts = np.empty((min(block, replicates - start), clips))
        for row in counts:
            row[:] = np.bincount(random.integers(0, clips, size=clips), minlength=clips)
        yield counts


@dataclass(frozen=True, repr=False, eq=False)
class Scores:
    """The figures of one run under one metric."""

    metric: str
    primary: str
    """The figure that tables show."""
    conditions: Mapping[str, Any]
    """Edition, edge-case rule and the like: runs may stand in one table only where these agree."""
    comparable: bool
    """False where a figure must not be set beside those of the papers."""
    contributions: Contributions
    aggregate: Aggregate
    counted: npt.NDArray[np.bool_]
    """(clips): which clips count in at least one figure."""
    notes: list[str]
    unknown: Callable[[], Rows] = list
    """Labels outside the vocabulary with their counts, most frequent first; made when asked for."""
    tables: Callable[[], dict[str, Rows]] = dict
    """What the metric adds to the breakdown; made when asked for."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    confidence: float = 0.95

    def __repr__(self) -> str:
        figure = f"{self.primary} {100 * self.figures[self.primary]:.2f} %"
        return f"<{self.metric}: {figure}, {self.n_clips} clips, {self.n_counted} count>"

    def __str__(self) -> str:
        """A table in percent, and below it whatever a reader of the figures must know."""
        mark = "" if self.comparable else "*"
        body = [
            [
                name + mark,
                percent(value),
                percent_interval(low, high),
                percent(precision),
                percent(recall),
                "" if counted is None else counted,
            ]
            for name, value, low, high, precision, recall, counted in self.rows()[1:]
        ]
        header = ["figure", "%", f"{100 * self.confidence:g} % interval", "precision", "recall"]
        header.append("n")
        used = [i for i in range(len(header)) if any(row[i] != "" for row in body)]
        # The primary figure, which tables show, comes first.
        body.sort(key=lambda row: row[0] != self.primary + mark)
        table = tabulate(
            [[row[i] for i in used] for row in body],
            [header[i] for i in used],
            colalign=["left", *["right"] * (len(used) - 1)],
            disable_numparse=True,
        )
        title = f"{self.metric}: {self.n_clips} clips, {self.n_counted} of them count"
        return "\n".join([title, "", table, "", *self.note_lines()])

    def note_lines(self) -> list[str]:
        """The notes as a list to print."""
        notes = [f"- {note}" for note in self.notes]
        return notes if self.comparable else ["* not comparable with papers", *notes]

    @cached_property
    def figures(self) -> dict[str, float]:
        """Every figure in [0, 1] by its flat name, e.g. `M-avg`, `M3-W1-L1/precision`."""
        figures = self.aggregate(self.contributions.sums)
        return {name: float(value) for name, value in figures.items()}

    @property
    def n_clips(self) -> int:
        return len(self.contributions.clips)

    @property
    def n_counted(self) -> int:
        return int(np.count_nonzero(self.counted))

    def with_intervals(
        self, replicates: int = 1000, seed: int = 0, confidence: float = 0.95
    ) -> "Scores":
        """The same scores with a percentile bootstrap interval for every figure."""
        drawn = self.aggregate(self.contributions.resampled(replicates, seed))
        tail = (1 - confidence) / 2
        intervals = {}
        for name, values in drawn.items():
            low, high = np.quantile(values, [tail, 1 - tail])
            intervals[name] = (float(low), float(high))
        return replace(self, intervals=intervals, confidence=confidence)

    def rows(self) -> Rows:
        """One row a figure: its interval, its precision and recall, and how many clips count."""
        sums = dict(zip(self.contributions.columns, self.contributions.sums, strict=True))
        parts = {f"{name}/{part}" for name in self.figures for part in ("precision", "recall")}
        rows: Rows = [["figure", "value", "low", "high", "precision", "recall", "counted"]]
        for name, value in self.figures.items():
            if name not in parts:
                low, high = self.intervals.get(name, (None, None))
                precision, recall = (
                    self.figures.get(f"{name}/{p}") for p in ("precision", "recall")
                )
                counted = sums.get(f"{name}/counted")
                shown = None if counted is None else int(counted)
                rows.append([name, value, low, high, precision, recall, shown])
        return rows

    def breakdown(self) -> dict[str, Rows]:
        """Tables that show where the figures come from: per figure, per clip, and the metric's."""
        values = zip(self.contributions.clips, self.contributions.values.tolist(), strict=True)
        header = ["name", *self.contributions.columns]
        return {
            "figures": self.rows(),
            "per_clip": [header, *([name, *row] for name, row in values)],
            **self.tables(),
        }

    def frames(self) -> "dict[str, DataFrame]":
        """The breakdown as pandas data frames, for notebooks."""
        from pandas import DataFrame

        tables = self.breakdown().items()
        return {name: DataFrame(rows, columns=header) for name, (header, *rows) in tables}

    def as_json(self) -> dict[str, Any]:
        """The scores as plain values; an undefined figure is null, since JSON has no NaN."""
        header, *unknown = self.unknown() or [[]]
        return {
            "metric": self.metric,
            "primary": self.primary,
            "conditions": dict(self.conditions),
            "comparable_with_papers": self.comparable,
            "n_clips": self.n_clips,
            "n_counted": self.n_counted,
            "figures": {name: _finite(value) for name, value in self.figures.items()},
            "confidence": self.confidence if self.intervals else None,
            "intervals": {
                name: [_finite(low), _finite(high)] for name, (low, high) in self.intervals.items()
            },
            "unknown_labels": [
                dict(zip(header, [f"{label:.{_LONGEST_LABEL}}", *counts], strict=True))
                for label, *counts in unknown[:_MOST_LABELS]
            ],
            "notes": self.notes,
        }


def percent(value: float | None) -> str:
    """A figure in [0, 1] as text: `45.12`, "" for none."""
    if value is None:
        return ""
    return "undefined" if math.isnan(value) else f"{100 * value:.2f}"


def percent_interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    return "undefined" if math.isnan(low) else f"{percent(low)} .. {percent(high)}"


def write_csvs(folder: str | Path, tables: Mapping[str, Rows]) -> list[Path]:
    """Write each table to FOLDER/NAME.csv; returns the paths. Raises OSError."""
    root = Path(folder).expanduser()
    root.mkdir(parents=True, exist_ok=True)
    paths = [root / f"{name}.csv" for name in tables]
    for path, rows in zip(paths, tables.values(), strict=True):
        with path.open("w", encoding="utf-8", newline="", errors="replace") as file:
            cells = ((guarded(c) if isinstance(c, str) else c for c in row) for row in rows)
            csv.writer(file, lineterminator="\n").writerows(cells)
    return paths


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def ratio(above: FloatArray, below: FloatArray, undefined: float) -> FloatArray:
    """above / below, and `undefined` where below is 0; NaN in `above` stays."""
    out = np.full(np.broadcast_shapes(above.shape, below.shape), undefined)
    return np.divide(above, below, out=out, where=below != 0)


def mean(values: Sequence[FloatArray]) -> FloatArray:
    """The mean in the given order, so that it is the same on every platform."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total / len(values)
