"""One run on its leaderboard: its readings scored, and their mean."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.data import in_clusters
from ovmer.runners.report.runs import ReportRun
from ovmer.runners.scoring import Scores
from ovmer.runners.scoring.grouping import GroupingMetric
from ovmer.runners.scoring.resampling import FloatArray
from ovmer.runners.scoring.result import mean_scores, ratio
from ovmer.runners.scoring.words import WordMetric


@dataclass
class LeaderboardEntry:
    """One run on its board."""

    run: ReportRun
    name: str
    """Its name on the page, unique on its board."""
    scores: list[Scores]
    """One for each reading; empty where there is no truth to score against."""
    mean: Scores | None
    """That of the readings, in the data set's clusters."""
    missing: str = "zero"

    @cached_property
    def excluded(self) -> str:
        """Why it is left out of comparisons; empty where it is not."""
        if self.run.is_bound:
            return "upper bound"
        if self.run.is_dry:
            return "dry run"
        if not self.run.truth:
            return "no truth"
        if not any(self.run.readings):
            return "no labels"
        if not self.run.is_whole and self.missing != "skip":
            return "not finished"
        if self.mean is None:
            return "no clip is scored"
        return "" if self.mean.n_counted else "no clip counts"

    @cached_property
    def figures(self) -> dict[str, float]:
        """The mean over the readings; if nothing can be scored, the figures of scores.json."""
        if self.mean is None:
            stored = {} if self.run.entry is None else self.run.entry.figures
            return {name: value for name, value in stored.items() if value is not None}
        return {name: value for name, value in self.mean.shown.items() if not math.isnan(value)}

    @cached_property
    def per_clip(self) -> FloatArray:
        """(clips): the mean score of each clip by itself, NaN where the clip does not count."""
        found = np.full(len(self.run.clips), np.nan)
        if self.scores:
            index = {clip.name: i for i, clip in enumerate(self.run.clips)}
            clips = self.scores[0].contributions.clips
            by_mapping = isinstance(self.run.metric, WordMetric | GroupingMetric)
            score = _mean_over_mappings if by_mapping else _primary
            readings = [score(each) for each in self.scores]
            found[np.array([index[name] for name in clips])] = np.mean(readings, axis=0)
        return found


def make_entry(
    run: ReportRun, name: str, missing: str, clips: Collection[str] | None = None
) -> LeaderboardEntry:
    """The run scored, on some `clips` alone if they are given; a warning where it cannot be."""
    scores = list[Scores]()
    try:
        scores = _score(run, missing, clips)
    except PrerequisiteError as error:
        run.warnings.append(f"not scored: {error}")
    if not scores:
        return LeaderboardEntry(run, name, [], None, missing)
    mean = in_clusters(mean_scores(scores), run.clips, run.settings.dataset.get("cluster"))
    return LeaderboardEntry(run, name, scores, mean, missing)


def _score(run: ReportRun, missing: str, clips: Collection[str] | None) -> list[Scores]:
    """One for each reading, over the clips that are done in all of them."""
    truth = run.truth
    wanted = set(truth if clips is None else clips)
    labelled = set.intersection(*(set(labels) for labels in run.readings))
    failed = {each.name for each in run.predictions.values() if each.failed}
    if missing == "skip":
        wanted &= labelled - failed
    elif not run.is_whole:
        wanted &= labelled | failed
    truth = {name: labels for name, labels in truth.items() if name in wanted}
    if not truth:
        return []
    found = [{name: each.labels for name, each in labels.items()} for labels in run.readings]
    return [run.metric.score(labels, truth, missing="zero") for labels in found]


def _primary(scores: Scores) -> FloatArray:
    """(clips): the primary figure of each clip by itself."""
    figures = scores.aggregate(scores.contributions.values)
    return np.where(scores.counted, figures[scores.primary], np.nan)


def _mean_over_mappings(scores: Scores) -> FloatArray:
    """(clips): F (or the hit) averaged over the mappings under which the clip counts.

    Not the primary figure of a single clip: there a mapping under which it does not count is 0, so
    that a perfect answer would not get 1.
    """
    columns, values = scores.contributions.columns, scores.contributions.values
    first, second, counted = (values[:, part::3] for part in range(3))
    if columns[1].endswith("recall"):
        first = ratio(2 * first * second, first + second, 0.0)
    return ratio((first * counted).sum(axis=1), counted.sum(axis=1), np.nan)
