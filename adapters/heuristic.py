"""Baselines without a model: the floor and the ceiling of every table."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ovmer.adapters.base import SUBTITLE, Adapter, Prepared
from ovmer.adapters.lexicon import find_emotions
from ovmer.adapters.registry import register
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.words import wheel_words

BASIC_EMOTIONS = ("neutral", "angry", "happy", "sad", "worried", "surprise")
"""The six words of the MER challenges, in the authors' index order (MER2023 toolkit, config.py)."""


@register("empty")
class Empty(Adapter):
    """Says nothing. Precision and recall are 0 by construction."""

    modalities = frozenset[str]()
    answers_with_labels = True

    def describe(self, video: Path | None, audio: Path | None, subtitle: str | None) -> str:
        return ""


@register("random")
@dataclass
class Random(Adapter):
    """Draws labels at random, from each clip's own stream; where a task has labels, from those.

    All that is known of the paper's row is that it draws one of the basic emotions; which six is
    our choice (those of the MER challenges).
    """

    labels: int = 1
    """How many labels to draw, without repetition."""
    source: str = "basic"
    """`basic`: the six words of the MER challenges; `wheels`: any word of the five wheels."""

    modalities: ClassVar[frozenset[str]] = frozenset()
    answers_with_labels: ClassVar[bool] = True
    chooses: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.source not in ("basic", "wheels"):
            raise PrerequisiteError(
                f"baseline.source is {self.source!r}; choose `basic` or `wheels`"
            )
        self._words = BASIC_EMOTIONS if self.source == "basic" else tuple(sorted(wheel_words()))
        if not 1 <= self.labels <= len(self._words):
            raise PrerequisiteError(
                f"baseline.labels is {self.labels}; it must be between 1 and {len(self._words)}"
            )

    def generate(self, batch: list[Prepared]) -> Sequence[str]:
        return [self._drawn(item) for item in batch]

    def _drawn(self, item: Prepared) -> str:
        stream = random.Random(item.seed)
        drawn = {
            part: ", ".join(stream.sample(words, min(self.labels, len(words))))
            for part, words in (item.answers or {"": self._words}).items()
        }
        return ", ".join(f"{part}: {words}" if part else words for part, words in drawn.items())


@register("ground_truth")
class GroundTruth(Adapter):
    """Repeats the true labels: 1 in every set metric by construction."""

    modalities = frozenset[str]()
    answers_with_labels = True
    sees_truth = True

    def describe(self, video: Path | None, audio: Path | None, subtitle: str | None) -> str:
        raise PrerequisiteError(
            "ground_truth has no truth for a single file; run it over a data set with ovmer sweep"
        )

    def generate(self, batch: list[Prepared]) -> Sequence[str]:
        return [", ".join(item.truth) for item in batch]


@register("lexicon")
class Lexicon(Adapter):
    """The emotion words of the subtitle: an honest text-only floor with no model."""

    modalities = frozenset({SUBTITLE})
    answers_with_labels = True

    def describe(self, video: Path | None, audio: Path | None, subtitle: str | None) -> str:
        return ", ".join(find_emotions(subtitle or ""))
