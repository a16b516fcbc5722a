"""Runs -> leaderboards: one for each set of comparable runs.

Runs share a board where data set, clips and their clusters, truth, metric and its conditions (the
vocabulary's edition, say) agree; others are kept apart. A run that is not finished is listed on its
board with figures over the clips that it has, and is left out of every comparison; so are dry runs
and the truth itself.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ovmer.baselines.errors import Status
from ovmer.runners.folder.scores_json import unlike_labels
from ovmer.runners.job import preset_of
from ovmer.runners.report.entries import LeaderboardEntry, make_entry
from ovmer.runners.report.runs import ReportRun
from ovmer.runners.report.tallies import input_changes, label_counts
from ovmer.runners.scoring import Scores
from ovmer.runners.scoring.alignment import on_common_clips
from ovmer.runners.scoring.base import headlines
from ovmer.runners.scoring.comparison import detectable, explanations
from ovmer.runners.scoring.intervals import make_intervals, standard_error
from ovmer.runners.scoring.resampling import FloatArray, replicates_for, resample
from ovmer.runners.scoring.significance import (
    RunComparison,
    compare_contributions,
    mean_statistic,
)
from ovmer.runners.scoring.variance import rerun_half_width, variance_parts
from ovmer.runners.scoring.vocabulary import MAPPINGS
from ovmer.runners.trained_on import COLUMN, seen_by

_CONFIDENCE = 0.95
_LATEST = 3  # answers shown while a sweep runs


class Leaderboard:
    """Rows that share clips, truth and metric: the best first, what is excluded last."""

    def __init__(self, rows: Sequence[LeaderboardEntry]) -> None:
        first = rows[0].run
        self.dataset, self.metric, self.clips = first.dataset, first.metric, first.clips
        self.notes = _keep_common_clips(rows)
        self.rows = sorted(rows, key=self._order)
        self._drawn = _draw([row for row in self.rows if row.mean is not None])
        self._intervals = {
            row.name: make_intervals(row.mean, self._drawn[row.name], _CONFIDENCE)
            for row in self.rows
            if row.mean is not None
        }

    def _order(self, row: LeaderboardEntry) -> tuple[bool, float]:
        """A perfect figure over two clips does not come first; nor is that of a dry run."""
        is_listed_last = bool(row.excluded) and not row.run.is_bound
        return is_listed_last, -row.figures.get(self.metric.primary, -1.0)

    @cached_property
    def family(self) -> RunComparison | None:
        """All pairs of the runs that are compared, in the primary figure; None without two."""
        compared = {row.name: row.mean for row in self.rows if not row.excluded and row.mean}
        if len(compared) < 2:
            return None
        primary = self.metric.primary
        return compare_contributions(
            {name: each.contributions for name, each in compared.items()},
            mean_statistic(next(iter(compared.values())), primary),
            primary,
            drawn={name: self._drawn[name][primary] for name in compared},
            confidence=_CONFIDENCE,
        )

    @property
    def names(self) -> list[str]:
        return [row.name for row in self.rows]

    @cached_property
    def figure_names(self) -> list[str]:
        """The primary one first, then the usual headlines, then the others."""
        known = list(dict.fromkeys(name for row in self.rows for name in row.figures))
        wanted = headlines(self.metric.primary, known)
        return list(dict.fromkeys([name for name in wanted if name in known] + known))

    @property
    def weight(self) -> tuple[int, float]:
        """How many runs answered, and when the last of them did; the page opens on the largest."""
        answered = [row.run.changed for row in self.rows if row.run.answered]
        return len(answered), max(answered, default=0.0)

    @property
    def warnings(self) -> dict[str, list[str]]:
        """Each warning, and the rows for which it holds."""
        found: dict[str, list[str]] = dict.fromkeys(self.notes, self.names)
        for row in self.rows:
            for warning in self._row_warnings(row):
                found.setdefault(warning, []).append(row.name)
        return found

    @cached_property
    def _labels_made(self) -> dict[str, str]:
        """How the labels of each row were made; empty where all were made alike, or named by the
        baselines themselves."""
        entries = {
            row.name: row.run.entry
            for row in self.rows
            if row.run.entry is not None and not row.run.names_labels
        }
        return unlike_labels(entries)

    def _row_warnings(self, row: LeaderboardEntry) -> list[str]:
        made = self._labels_made.get(row.name)
        unlike = f"other labels: made by {made}, those of other rows otherwise, which alone may "
        own = [unlike + "be the difference between them"] if made else []
        return [*own, *row.run.warnings]

    def as_json(self) -> dict[str, Any]:
        """All that the leaderboard and the head of a comparison show."""
        primary, first = self.metric.primary, self.rows[0].scores[:1]
        names = self.figure_names
        return {
            "dataset": self.dataset,
            "root": str(self.rows[0].run.settings.dataset.get("root", "")),
            "metric": self.metric.name,
            "primary": primary,
            "headlines": headlines(primary, names),
            "figures": names,
            "unbounded": sorted(first[0].unbounded) if first else [],
            "conditions": {
                key: _condition_text(value) for key, value in self.metric.conditions.items()
            },
            "comparable": bool(first) and first[0].comparable,
            "clips": len(self.clips),
            "counted": first[0].n_counted if first else 0,
            "confidence": _CONFIDENCE,
            "notes": self._common_notes(),
            "missing": self.rows[0].missing,
            "warnings": list(self.warnings.items()),
            "rows": [self._row(row) for row in self.rows],
            "best": self.best,
            "pairs": self._pairs(),
            "test": self._test(),
            "variance": self._variance(),
            "clusters": self._clusters(),
            "labels": label_counts([row.run for row in self.rows]),
            "inputs": input_changes(
                [(row.name, row.run, None if row.excluded else row.mean) for row in self.rows]
            ),
        }

    def _notes(self, row: LeaderboardEntry) -> list[str]:
        if row.mean is None:
            return []
        return [*row.mean.notes, *self._intervals[row.name].notes]

    def _common_notes(self) -> list[str]:
        noted = [self._notes(row) for row in self.rows if row.mean is not None]
        return [note for note in noted[0] if all(note in each for each in noted)] if noted else []

    def _row(self, row: LeaderboardEntry) -> dict[str, Any]:
        run, common, counts = row.run, self._common_notes(), row.run.counts
        notes = [note for note in self._notes(row) if note not in common]
        family = self.family
        return {
            "name": row.name,
            "title": run.title,
            "folder": str(run.path),
            "figures": self._figures(row),
            "spread": _spread(row, self.metric.primary),
            "ranks": family and family.ranks.get(row.name),
            "best": family and family.best.get(row.name),
            "status": {str(each): counts[each] for each in Status if each in counts},
            "done": len(run.predictions),
            "answered": run.answered,
            "latest": list(run.predictions)[: -_LATEST - 1 : -1],
            "excluded": row.excluded,
            "bound": run.is_bound,
            "warnings": self._row_warnings(row),
            "notes": notes,
            "settings": _settings(run),
        }

    def _figures(self, row: LeaderboardEntry) -> list[list[float | None] | None]:
        """[value, low, high] of each of `figure_names`."""
        made, entry = self._intervals.get(row.name), row.run.entry
        stored = {} if entry is None or made is not None else entry.intervals
        intervals: Mapping[str, tuple[float | None, ...]] = stored if made is None else made.found
        found: list[list[float | None] | None] = []
        for name in self.figure_names:
            if name not in row.figures:
                found.append(None)
                continue
            low, high = intervals.get(name) or (None, None)
            found.append([_rounded(each) for each in (row.figures[name], low, high)])
        return found

    @property
    def best(self) -> str | None:
        """The name of the best run that is compared."""
        return next((row.name for row in self.rows if not row.excluded), None)

    def _pairs(self) -> list[dict[str, Any]]:
        index = {name: i for i, name in enumerate(self.names)}
        if self.family is None:
            return []
        return [
            {
                "a": index[each.first],
                "b": index[each.second],
                "difference": _rounded(each.difference),
                "interval": [_rounded(end) for end in each.simultaneous],
                "p": _rounded(each.p),
                "p_alone": _rounded(each.p_alone),
                "p_equivalent": _rounded(each.p_equivalent),
                "differing": each.differing,
            }
            for each in self.family.pairs
        ]

    def _test(self) -> dict[str, Any] | None:
        """The test's data that hold for all pairs."""
        family = self.family
        if family is None:
            return None
        return {
            "alpha": _rounded(family.alpha),
            "margin": family.margin,
            "detectable": detectable(family),
            "clips": family.clips,
            "notes": list(family.notes),
            "explained": explanations(family),
        }

    def _variance(self) -> list[dict[str, Any]]:
        """The parts of the primary figure's variance, for runs with several seeds of some kind."""
        primary = self.metric.primary
        groups: dict[str, list[LeaderboardEntry]] = {}
        for row in self.rows:
            if row.mean is not None and not row.excluded:
                groups.setdefault(_without_seed(row.run), []).append(row)
        found = []
        for rows in groups.values():
            figures = [[each.figures[primary] for each in row.scores] for row in rows]
            drawn = self._drawn[rows[0].name][primary]
            units = rows[0].scores[0].contributions.n_units
            parts = variance_parts(figures, standard_error(drawn, units))
            if parts.generation is not None or parts.label is not None:
                names = ", ".join(row.name for row in rows)
                rounded = {key: _rounded(value) for key, value in asdict(parts).items()}
                found.append({"runs": names, "readings": sum(map(len, figures)), **rounded})
        return found

    def _clusters(self) -> dict[str, Any]:
        """Groups of each wheel and level, with their frequency in the truth and in each row."""
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


def make_boards(runs: Sequence[ReportRun], missing: str = "zero") -> list[Leaderboard]:
    """The boards of all runs, in the order in which their first run was given.

    With missing=zero a clip that failed counts as one without labels, and a run that lacks clips is
    not compared. With missing=skip runs are scored and compared on the clips that all have.
    """
    groups: dict[str, list[ReportRun]] = {}
    for run in runs:
        groups.setdefault(_key(run), []).append(run)
    return [
        Leaderboard(
            [
                make_entry(run, name, missing)
                for run, name in zip(of_kind, _names(of_kind), strict=True)
            ]
        )
        for of_kind in groups.values()
    ]


def _key(run: ReportRun) -> str:
    """Key of the leaderboard that a run belongs to."""
    clips = [[clip.name, *clip.labels] for clip in run.clips]
    metric = [run.metric.name, run.metric.primary, run.metric.conditions]
    cluster = run.settings.dataset.get("cluster") or {}
    rule = [cluster.get("pattern"), cluster.get("column")]
    text = json.dumps([run.dataset, clips, metric, rule], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "replace")).hexdigest()


def _names(runs: Sequence[ReportRun]) -> list[str]:
    """The folders' names; where two are alike, as much of their paths as tells them apart."""
    names = [run.name for run in runs]
    if len(set(names)) == len(names):
        return names
    paths = [run.path.resolve() for run in runs]
    above = Path(os.path.commonpath(paths))
    return [str(path.relative_to(above)) for path in paths]


def _keep_common_clips(rows: Sequence[LeaderboardEntry]) -> list[str]:
    """Score all rows on the clips that all compared ones have (missing=skip); returns a note."""
    compared = {row.name: row.mean for row in rows if row.mean and not row.excluded}
    if rows[0].missing != "skip" or len(compared) < 2:
        return []
    kept, notes = on_common_clips(compared, "skip")
    clips = set(next(iter(kept.values())).contributions.clips)
    for row in rows:
        if row.mean is not None and not clips.issuperset(row.mean.contributions.clips):
            anew = make_entry(row.run, row.name, row.missing, clips)
            row.scores, row.mean = anew.scores, anew.mean
    return notes


def _draw(rows: Sequence[LeaderboardEntry]) -> dict[str, dict[str, FloatArray]]:
    """Row -> figure -> its values (replicates) on resamples of clips, the same for all rows.

    Rows over the same clips are drawn together: the draw is what takes time.
    """
    by_clips: dict[tuple[str, ...], list[tuple[str, Scores]]] = {}
    for row in rows:
        if row.mean is not None:
            sample = row.mean.contributions
            by_clips.setdefault(sample.clips + sample.clusters, []).append((row.name, row.mean))
    drawn: dict[str, dict[str, FloatArray]] = {}
    for group in by_clips.values():
        parts = [scores.contributions for _, scores in group]
        sums = resample(parts, replicates_for(parts[0].n_units))
        for (name, scores), each in zip(group, sums, strict=True):
            drawn[name] = scores.aggregate(each)
    return drawn


def _spread(row: LeaderboardEntry, primary: str) -> dict[str, Any] | None:
    """Number and deviation of several readings, and the prediction interval of one more."""
    deviation = None if row.mean is None else row.mean.spread.get(primary)
    if deviation is None:
        return None
    rerun = rerun_half_width(deviation, len(row.scores))
    return {"readings": len(row.scores), "s": _rounded(deviation), "rerun": _rounded(rerun)}


def _without_seed(run: ReportRun) -> str:
    """Key of runs that differ only in their generation seed."""
    settings = run.settings
    same = [settings.baseline, settings.generation, settings.subtitle, settings.extractor]
    return json.dumps([*same, settings.engine, settings.machine.dtype], sort_keys=True, default=str)


def _condition_text(condition: Any) -> str:
    """A condition of a metric as text: of protocols, the names."""
    return ", ".join(condition) if isinstance(condition, Mapping) else str(condition)


def _settings(run: ReportRun) -> dict[str, str]:
    """What a row's figures depend on beside its model."""
    settings = run.settings
    return {
        **_frames(settings.baseline),
        "generation": preset_of(settings),
        "subtitle": settings.subtitle,
        "extractor": str(settings.extractor.get("name")),
        "seed": str(settings.seed),
        COLUMN: seen_by(settings).answer,
    }


def _frames(baseline: Mapping[str, Any]) -> dict[str, str]:
    """How many frames of a clip the model is shown; empty if its settings do not tell."""
    frames, fps = baseline.get("frames"), baseline.get("fps")
    if not isinstance(frames, int):
        return {}
    return {"frames": f"{fps:g} a second, at most {frames}" if fps else str(frames)}


def _rounded(value: float | None) -> float | None:
    """Five digits; None for what is undefined, since JSON has no NaN."""
    return None if value is None or not np.isfinite(value) else round(float(value), 5)
