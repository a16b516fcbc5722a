"""The result of a metric: sums over clips, from which every figure follows.

Each metric gives every clip a row of contributions (a precision, a hit, a true positive ...) and a
function from the column sums to its figures. The point figures, their bootstrap intervals and the
comparison of two runs are that one function on different sums, so F stays the F of the averages
in every replicate.

Guaranteed: figures do not depend on the order of clips (sums are exactly rounded, math.fsum) nor
on hash seeds; intervals do not depend on the platform either (resampling.py).
"""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import stdev
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tabulate import tabulate

from ovmer.runners.counts import clip_count
from ovmer.runners.foreign_text import guarded
from ovmer.runners.scoring.intervals import Interval, make_intervals
from ovmer.runners.scoring.resampling import Contributions as Contributions
from ovmer.runners.scoring.resampling import FloatArray as FloatArray
from ovmer.runners.scoring.resampling import replicates_for

if TYPE_CHECKING:
    from pandas import DataFrame

Aggregate = Callable[[FloatArray], dict[str, FloatArray]]
"""Column sums (... x columns) -> figures, each of shape (...)."""
Share = tuple[Sequence[int], Sequence[int]]
"""The columns whose sum is a count of hits, and those whose sum is of how many."""
Rows = list[list[Any]]
"""A table: the header, then its rows."""

_MOST_LABELS, _LONGEST_LABEL = 50, 100  # of the unknown ones, and their characters, in JSON


@dataclass(frozen=True, repr=False, eq=False)
class Scores:
    """The figures of one run under one metric."""

    metric: str
    primary: str
    """The figure that tables show."""
    conditions: Mapping[str, Any]
    """Edition, edge-case rule and the like: runs may share a table only if these agree."""
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
    """Further tables of the breakdown; made when asked for."""
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    confidence: float = 0.95
    shares: Mapping[str, Share] = field(default_factory=dict)
    """The figures that are plain shares of clips."""
    unbounded: frozenset[str] = frozenset()
    """The figures that may lie outside [0, 1], such as an error or a correlation."""
    errors: frozenset[str] = frozenset()
    """The figures of which less is better."""
    repeats: tuple[Mapping[str, float], ...] = ()
    """Of several readings (`mean_scores`) the figures of each."""
    cluster: str = ""
    """The kind of cluster: video, speaker, dialogue."""

    def __repr__(self) -> str:
        figure = f"{self.primary} {percent(self.shown[self.primary])} %"
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
        title = f"{self.metric}: {clip_count(self.n_clips)}, {self.n_counted} of them count"
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
    def shown(self) -> dict[str, float]:
        """The figures as tables show them: undefined where no clip counts, but for shares of
        unknown replies, which are over all clips.

        The authors' code gives 0 there, or 1, and so does `figures`.
        """
        if self.n_counted:
            return self.figures
        return {k: v if k.endswith("/unknown") else math.nan for k, v in self.figures.items()}

    @property
    def spread(self) -> dict[str, float]:
        """Sample standard deviation over readings, of each figure that all of them define."""
        if len(self.repeats) < 2:
            return {}
        columns = {name: [each[name] for each in self.repeats] for name in self.repeats[0]}
        return {
            name: stdev(values)
            for name, values in columns.items()
            if all(map(math.isfinite, values))
        }

    @property
    def n_clips(self) -> int:
        return len(self.contributions.clips)

    @property
    def n_counted(self) -> int:
        return int(np.count_nonzero(self.counted))

    def with_intervals(
        self, replicates: int | None = None, seed: int = 0, confidence: float = 0.95
    ) -> "Scores":
        """The same scores with an interval for every figure (intervals.py), and notes on them.

        By default 10,000 replicates, fewer over many clips. Raises PrerequisiteError for fewer
        than 200.
        """
        replicates = replicates_for(self.contributions.n_units, replicates)
        drawn = self.aggregate(self.contributions.resampled(replicates, seed))
        made = make_intervals(self, drawn, confidence)
        return replace(
            self,
            intervals=made.found,
            confidence=confidence,
            notes=[*self.notes, *made.notes],
        )

    def in_clusters(self, clusters: Mapping[str, str], what: str = "cluster") -> "Scores":
        """The same, with intervals over clusters of clips; `clusters` maps a clip to its own.

        A clip that it lacks is a cluster by itself.
        """
        names = tuple(clusters.get(name, name) for name in self.contributions.clips)
        return replace(
            self, contributions=replace(self.contributions, clusters=names), cluster=what
        )

    def restricted(self, clips: Sequence[str]) -> "Scores":
        """The scores over the given clips alone, which must be among ours."""
        ours = self.contributions.clips
        if tuple(clips) == ours:
            return self
        index = {name: i for i, name in enumerate(ours)}
        rows = [index[name] for name in clips]
        restricted = replace(
            self,
            contributions=self.contributions.restricted(clips),
            counted=self.counted[rows],
            notes=[*self.notes, f"over {len(clips)} of its {len(ours)} clips"],
            intervals={},
        )
        if not self.repeats:
            return restricted
        return replace(restricted, repeats=_each_reading(restricted, len(self.repeats)))

    def rows(self) -> Rows:
        """One row a figure: its interval, its precision and recall, and how many clips count."""
        sums = dict(zip(self.contributions.columns, self.contributions.sums, strict=True))
        parts = {f"{name}/{part}" for name in self.figures for part in ("precision", "recall")}
        rows: Rows = [["figure", "value", "low", "high", "precision", "recall", "counted"]]
        figures = self.shown
        for name, value in figures.items():
            if name not in parts:
                low, high = self.intervals.get(name, (None, None))
                precision, recall = (figures.get(f"{name}/{p}") for p in ("precision", "recall"))
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
            "figures": {name: _finite(value) for name, value in self.shown.items()},
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


def mean_scores(readings: Sequence[Scores]) -> Scores:
    """One run's scores over several readings of its answers: every figure is the mean of theirs.

    The readings' columns are side by side, so that a clip is drawn with all of its readings.
    `aggregate` takes sums of any number of readings. Clips that some reading lacks are left out.
    """
    first = readings[0]
    if len(readings) == 1:
        return first
    common = sorted(set.intersection(*(set(each.contributions.clips) for each in readings)))
    readings = [each.restricted(common) for each in readings]
    first = readings[0]
    columns = [
        name if number == 1 else f"reading {number}: {name}"
        for number in range(1, len(readings) + 1)
        for name in first.contributions.columns
    ]
    values = np.concatenate([each.contributions.values for each in readings], axis=1)
    return replace(
        first,
        contributions=replace(first.contributions, columns=tuple(columns), values=values),
        aggregate=mean_aggregate(first.aggregate, len(first.contributions.columns)),
        counted=np.any([each.counted for each in readings], axis=0),
        repeats=tuple(each.figures for each in readings),
        shares={},
    )


def mean_aggregate(aggregate: Aggregate, columns: int) -> Aggregate:
    """`aggregate` for sums of several readings side by side (... x readings * columns)."""

    def of_means(sums: FloatArray) -> dict[str, FloatArray]:
        figures = aggregate(sums.reshape(*sums.shape[:-1], -1, columns))
        return {name: np.mean(values, axis=-1) for name, values in figures.items()}

    return of_means


def _each_reading(scores: Scores, readings: int) -> tuple[dict[str, float], ...]:
    """The figures of each reading of scores that are the mean of several."""
    parts = np.split(scores.contributions.sums, readings)
    return tuple(
        {name: float(value) for name, value in scores.aggregate(part).items()} for part in parts
    )


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
