"""`scores.json`: figures of labels that were made in one way, under one metric each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

from ovmer.runners.scoring.result import Scores

Figures = Mapping[str, float | None]
"""In [0, 1] by name; None for one that is undefined, since JSON has no NaN."""


@dataclass(frozen=True)
class StoredScores:
    """An entry of `scores.json`: `Scores.as_json`, and what they were made from."""

    metric: str
    primary: str
    figures: Figures
    """Of several readings (seeds of the extractor) their means."""
    extraction: str = ""
    """How the labels were made, in a word (`Job.extraction`)."""
    extractor: Mapping[str, Any] = field(default_factory=dict)
    """Identity of the extractor."""
    digest: str | None = None
    """Hash of all that the figures follow from."""
    conditions: Mapping[str, Any] = field(default_factory=dict)
    comparable_with_papers: bool = True
    n_clips: int = 0
    n_counted: int = 0
    confidence: float | None = None
    intervals: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    unknown_labels: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    spread: Mapping[str, float] = field(default_factory=dict)
    """Of several readings the sample standard deviation of each figure."""
    repeats: tuple[Figures, ...] = ()
    """Of several readings the figures of each."""
    answered_only: Figures | None = None
    """Without the clips that failed, which count as clips without labels in `figures`."""

    @property
    def key(self) -> str:
        """Under which it is kept: one folder may be scored in several ways."""
        return f"{self.extraction}/{self.metric}"

    @property
    def is_merged(self) -> bool:
        """Whether the subtitle was merged into the answers before the labels were taken."""
        return self.extraction.endswith("-merge")

    def interval(self, figure: str) -> tuple[float, float] | None:
        """Bootstrap over clips or, where extraction was repeated, two deviations to each side."""
        low, high = self.intervals.get(figure) or (None, None)
        if low is not None and high is not None:
            return low, high
        spread, value = self.spread.get(figure), self.figures.get(figure)
        if spread is None or value is None:
            return None
        return value - 2 * spread, value + 2 * spread


def stored_scores(scores: Sequence[Scores], **made_from: Any) -> StoredScores:
    """The entry for one reading of the clips, or for several.

    The authors' extraction samples without a seed, so one published figure is one draw; OV-MER
    prints mean and deviation of two for its grouping metric.
    """
    if len(scores) == 1:
        return StoredScores(**scores[0].as_json(), **made_from)
    each = [one.as_json() for one in scores]
    columns = {name: [one["figures"][name] for one in each] for name in each[0]["figures"]}
    defined = {name: values for name, values in columns.items() if None not in values}
    means = {name: fmean(defined[name]) if name in defined else None for name in columns}
    return StoredScores(
        **{**each[0], "figures": means},
        spread={name: stdev(values) for name, values in defined.items()},
        repeats=tuple(one["figures"] for one in each),
        **made_from,
    )
