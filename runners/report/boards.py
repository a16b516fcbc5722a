"""Runs -> leaderboards: one for each set of runs that can stand side by side.

Runs share a board where data set, clips, truth, metric and its conditions (the vocabulary's
edition, say) agree; others are kept apart. A run that is not finished stands on its board with
figures over the clips that it has, and is left out of every comparison; so are dry runs and
the truth itself.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ovmer.baselines.errors import Status
from ovmer.runners.report.runs import Run
from ovmer.runners.report.tallies import label_counts
from ovmer.runners.scoring import Contributions, Scores
from ovmer.runners.scoring.result import FloatArray, ratio
from ovmer.runners.scoring.significance import Comparison, compare_drawn
from ovmer.runners.scoring.vocabulary import MAPPINGS

_REPLICATES, _DRAWS = 10_000, 100_000_000
"""Behind p values: as many as in ovmer compare, or fewer where that were more draws of clips."""
_INTERVALS = 1000
"""Of these, behind intervals, as in ovmer score: the same draws, so the same digits."""
_CONFIDENCE = 0.95
_HEADLINES = ("M-avg", "level1", "level2")


@dataclass
class Entry:
    """One run on its board."""

    run: Run
    name: str
    """What the page calls it: unlike all others of its board."""
    scores: list[Scores]
    """One for each reading; empty where there is no truth to score against."""

    @cached_property
    def excluded(self) -> str:
        """Why it is left out of comparisons; empty where it is not."""
        if self.run.is_bound:
            return "upper bound"
        if self.run.is_dry:
            return "dry run"
        if not self.run.is_whole:
            return "not finished"
        return "" if any(each.n_counted for each in self.scores) else "no truth"

    @cached_property
    def figures(self) -> dict[str, float]:
        """The mean over the readings; where nothing can be scored, what scores.json says."""
        if not self.scores:
            stored = {} if self.run.entry is None else self.run.entry.figures
            return {name: value for name, value in stored.items() if value is not None}
        names = self.scores[0].figures
        return {
            name: float(np.mean([each.figures[name] for each in self.scores])) for name in names
        }

    @cached_property
    def per_clip(self) -> FloatArray:
        """(clips): the score of each clip by itself, NaN where the clip does not count."""
        found = np.full(len(self.run.clips), np.nan)
        if self.scores:
            place = {clip.name: i for i, clip in enumerate(self.run.clips)}
            clips = self.scores[0].contributions.clips
            found[np.array([place[name] for name in clips])] = _clip_scores(self.scores[0])
        return found


class Board:
    """Rows that share clips, truth and metric: the best first, what is excluded last."""

    def __init__(self, rows: Sequence[Entry]) -> None:
        first = rows[0].run
        self.dataset, self.metric, self.clips = first.dataset, first.metric, first.clips
        self.rows = sorted(rows, key=self._place)
        self._drawn = _draw([row for row in self.rows if row.scores])

    def _place(self, row: Entry) -> tuple[bool, float]:
        """A perfect figure over two clips is no first place; nor is that of a dry run."""
        is_listed_last = bool(row.excluded) and not row.run.is_bound
        return is_listed_last, -row.figures.get(self.metric.primary, -1.0)

    @property
    def names(self) -> list[str]:
        return [row.name for row in self.rows]

    @cached_property
    def figure_names(self) -> list[str]:
        """The primary one first, then the usual headlines, then the others."""
        known = list(dict.fromkeys(name for row in self.rows for name in row.figures))
        wanted = [self.metric.primary, *_HEADLINES]
        return list(dict.fromkeys([name for name in wanted if name in known] + known))

    @property
    def warnings(self) -> dict[str, list[str]]:
        """Each warning, and the rows for which it holds."""
        found: dict[str, list[str]] = {}
        for row in self.rows:
            for warning in row.run.warnings:
                found.setdefault(warning, []).append(row.name)
        return found

    def as_json(self) -> dict[str, Any]:
        """All that the leaderboard and the head of a comparison show."""
        primary, first = self.metric.primary, self.rows[0].scores[:1]
        names = self.figure_names
        return {
            "dataset": self.dataset,
            "root": str(self.rows[0].run.settings.dataset.get("root", "")),
            "metric": self.metric.name,
            "primary": primary,
            "headlines": [name for name in names if name in (primary, *_HEADLINES)],
            "figures": names,
            "conditions": {key: str(value) for key, value in self.metric.conditions.items()},
            "comparable": bool(first) and first[0].comparable,
            "clips": len(self.clips),
            "counted": first[0].n_counted if first else 0,
            "confidence": _CONFIDENCE,
            "notes": self._common_notes(),
            "warnings": list(self.warnings.items()),
            "rows": [self._row(row) for row in self.rows],
            "best": self._against_best(),
            "pairs": self._pairs(),
            "clusters": self._clusters(),
            "labels": label_counts([row.run for row in self.rows]),
        }

    def _common_notes(self) -> list[str]:
        noted = [set(each.notes) for row in self.rows for each in row.scores[:1]]
        if not noted:
            return []
        common = set.intersection(*noted)
        return [
            note
            for note in next(r for r in self.rows if r.scores).scores[0].notes
            if note in common
        ]

    def _row(self, row: Entry) -> dict[str, Any]:
        run, common, counts = row.run, self._common_notes(), row.run.counts
        notes = [note for each in row.scores[:1] for note in each.notes if note not in common]
        return {
            "name": row.name,
            "title": run.title,
            "folder": str(run.path),
            "figures": self._figures(row),
            "status": {str(each): counts[each] for each in Status if each in counts},
            "done": len(run.predictions),
            "excluded": row.excluded,
            "bound": run.is_bound,
            "warnings": list(run.warnings),
            "notes": notes,
            "settings": _told(run),
        }

    def _figures(self, row: Entry) -> list[list[float | None] | None]:
        """[value, low, high] of each of `figure_names`."""
        drawn = self._drawn.get(row.name)
        entry = row.run.entry if drawn is None else None
        found: list[list[float | None] | None] = []
        for name in self.figure_names:
            if name not in row.figures:
                found.append(None)
                continue
            low, high = (entry and entry.intervals.get(name)) or (None, None)
            if drawn is not None:
                tail = (1 - _CONFIDENCE) / 2
                low, high = np.quantile(drawn[name][:_INTERVALS], [tail, 1 - tail])
            found.append([_rounded(each) for each in (row.figures[name], low, high)])
        return found

    def _compare(self, against: str | None = None) -> list[Comparison]:
        primary = self.metric.primary
        figures = {row.name: row.figures[primary] for row in self.rows if not row.excluded}
        if len(figures) < 2:
            return []
        drawn = {name: self._drawn[name][primary] for name in figures}
        return compare_drawn(figures, drawn, against, _CONFIDENCE)

    def _against_best(self) -> dict[str, Any]:
        """Of every compared run, how far it is behind the best one."""
        compared = [row.name for row in self.rows if not row.excluded]
        if not compared:
            return {}
        return {
            "name": compared[0],
            "others": {each.first: _told_of(each) for each in self._compare(compared[0])},
        }

    def _pairs(self) -> list[dict[str, Any]]:
        place = {name: i for i, name in enumerate(self.names)}
        return [
            {"a": place[each.first], "b": place[each.second], **_told_of(each)}
            for each in self._compare()
        ]

    def _clusters(self) -> dict[str, Any]:
        """For each wheel and level its groups, how often each is true, and each row's counts."""
        found: dict[str, Any] = {}
        for number, row in enumerate(self.rows):
            table = row.scores[0].tables().get("per_cluster", [[]]) if row.scores else [[]]
            for mapping, group, true, predicted, both, *_ in table[1:]:
                if not mapping.startswith("M3"):
                    continue  # word forms and synonyms are hundreds of groups of one word each
                groups = found.setdefault(mapping, {})
                counts = groups.setdefault(group, {"true": 0, "rows": {}})
                # An unfinished run's truth is that of its own clips alone.
                counts["true"] = max(true, counts["true"])
                counts["rows"][number] = [predicted, both, true]
        return {mapping: found[mapping] for mapping in MAPPINGS if mapping in found}


def make_boards(runs: Sequence[Run]) -> list[Board]:
    """The boards of all runs, in the order in which their first run was given."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_key(run), []).append(run)
    return [
        Board(
            [
                Entry(run, name, _score(run))
                for run, name in zip(of_kind, _names(of_kind), strict=True)
            ]
        )
        for of_kind in groups.values()
    ]


def _key(run: Run) -> str:
    """What must agree between the runs of a board."""
    clips = [[clip.name, *clip.labels] for clip in run.clips] if run.truth else []
    metric = [run.metric.name, run.metric.primary, run.metric.conditions]
    told = json.dumps([run.dataset, clips, metric], sort_keys=True, default=str)
    return hashlib.blake2b(told.encode("utf-8", "replace")).hexdigest()


def _names(runs: Sequence[Run]) -> list[str]:
    """The folders' names; where two are alike, as much of their paths as tells them apart."""
    names = [run.name for run in runs]
    if len(set(names)) == len(names):
        return names
    paths = [run.path.resolve() for run in runs]
    above = Path(os.path.commonpath(paths))
    return [str(path.relative_to(above)) for path in paths]


def _score(run: Run) -> list[Scores]:
    """A clip that failed counts as one without labels; one that is not done yet is left out."""
    truth = run.truth
    if not run.is_whole:
        done = set.intersection(*(set(labels) for labels in run.readings)) | {
            each.name for each in run.predictions.values() if each.failed
        }
        truth = {name: labels for name, labels in truth.items() if name in done}
    if not truth:
        return []
    found = [{name: each.labels for name, each in labels.items()} for labels in run.readings]
    return [run.metric.score(labels, truth, missing="zero") for labels in found]


def _clip_scores(scores: Scores) -> FloatArray:
    """(clips): F (or the hit) averaged over the mappings under which the clip counts.

    Not the primary figure of a single clip: there a mapping under which it does not count is 0, so
    that a perfect answer would not get 1. Of a metric over classes it is that figure.
    """
    columns, values = scores.contributions.columns, scores.contributions.values
    if not all(name.endswith("counted") for name in columns[2::3]):
        return np.where(scores.counted, scores.aggregate(values)[scores.primary], np.nan)
    first, second, counted = (values[:, part::3] for part in range(3))
    if columns[1].endswith("recall"):
        first = ratio(2 * first * second, first + second, 0.0)
    return ratio((first * counted).sum(axis=1), counted.sum(axis=1), np.nan)


def _draw(rows: Sequence[Entry]) -> dict[str, dict[str, FloatArray]]:
    """Row -> figure -> its values (replicates) on resamples of clips, the same for all rows.

    Rows over the same clips are drawn together: the draw is what takes time.
    """
    by_clips: dict[tuple[str, ...], list[Entry]] = {}
    for row in rows:
        by_clips.setdefault(row.scores[0].contributions.clips, []).append(row)
    drawn: dict[str, dict[str, FloatArray]] = {}
    for clips, group in by_clips.items():
        parts = [each.contributions for row in group for each in row.scores]
        sums = iter(np.split(_resampled(clips, parts), len(parts), axis=1))
        for row in group:
            figures = [each.aggregate(next(sums)) for each in row.scores]
            drawn[row.name] = {
                name: np.mean([each[name] for each in figures], axis=0) for name in figures[0]
            }
    return drawn


def _resampled(clips: tuple[str, ...], parts: Sequence[Contributions]) -> FloatArray:
    """(replicates x columns of all parts): column sums over clips drawn with replacement.

    Of columns that are alike, such as which clips count, one is drawn for all.
    """
    columns = [column for part in parts for column in part.values.T]
    distinct: dict[bytes, int] = {}
    place = [distinct.setdefault(column.tobytes(), len(distinct)) for column in columns]
    values = np.stack([columns[place.index(number)] for number in range(len(distinct))], axis=1)
    joined = Contributions(clips, tuple(map(str, range(len(distinct)))), values)
    replicates = max(_INTERVALS, min(_REPLICATES, _DRAWS // len(clips)))
    return joined.resampled(replicates, seed=0)[:, place]


def _told(run: Run) -> dict[str, str]:
    """What a row's figures depend on beside its model."""
    settings = run.settings
    return {
        "generation": settings.generation,
        "subtitle": settings.subtitle,
        "extractor": str(settings.extractor.get("name")),
        "seed": str(settings.seed),
    }


def _told_of(found: Comparison) -> dict[str, Any]:
    return {
        "difference": _rounded(found.difference),
        "interval": [_rounded(each) for each in found.interval],
        "p": _rounded(found.p),
        "holm": _rounded(found.p_corrected),
    }


def _rounded(value: float | None) -> float | None:
    """Five digits; None for what is undefined, since JSON has no NaN."""
    return None if value is None or not np.isfinite(value) else round(float(value), 5)
