"""`scores.json`: figures of labels that were made in one way, under one metric each."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
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
    """Of several readings the sample standard deviation of each figure: what another seed of the
    extractor would change. No part of `intervals`, which are over clips."""
    repeats: tuple[Figures, ...] = ()
    """Of several readings the figures of each."""
    answered_only: Figures | None = None
    """Without the clips that failed, which count as clips without labels in `figures`."""

    @property
    def key(self) -> str:
        """Its key in scores.json: one folder may be scored in several ways."""
        return f"{self.extraction}/{self.metric}"

    @property
    def is_merged(self) -> bool:
        """Whether the subtitle was merged into the answers before the labels were taken."""
        return self.extraction.endswith("-merge")

    def interval(self, figure: str) -> tuple[float, float] | None:
        """Over clips, of the mean of the readings; None where there is none."""
        low, high = self.intervals.get(figure) or (None, None)
        return None if low is None or high is None else (low, high)


def unlike_labels(entries: Mapping[str, StoredScores]) -> dict[str, str]:
    """How the labels of each run were made; empty where those of all were made alike."""
    made = {  # another seed or engine makes no other kind of labels
        name: {**e.extractor, "extraction": e.extraction, "seed": None, "engine": None}
        for name, e in entries.items()
    }
    if not _differing(made.values()):
        return {}
    texts = {
        name: " with ".join(filter(None, [each["extraction"], each.get("model")]))
        for name, each in made.items()
    }
    found = {}
    for name, text in texts.items():
        keys = _differing([each for other, each in made.items() if texts[other] == text])
        found[name] = ", ".join([text, *(f"{key}={made[name].get(key)}" for key in keys)])
    return found


def _differing(mappings: Collection[Mapping[str, Any]]) -> list[str]:
    """The keys whose values are not the same in all."""
    keys = dict.fromkeys(key for each in mappings for key in each)
    return [key for key in keys if len({repr(each.get(key)) for each in mappings}) > 1]


def stored_scores(scores: Scores, **made_from: Any) -> StoredScores:
    """The entry for one reading of the clips, or for several (`mean_scores`).

    The authors' extraction samples without a seed, so one published figure is one draw; OV-MER
    prints mean and deviation of two.
    """
    return StoredScores(
        **scores.as_json(),
        spread=scores.spread,
        repeats=tuple(map(finite, scores.repeats)),
        **made_from,
    )


def finite(figures: Mapping[str, float]) -> Figures:
    """The figures as JSON has them."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}
