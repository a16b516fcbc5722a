"""The emotion-wheel (EW) metrics: precision, recall and F over sets of mapped labels.

For each of the twelve mappings (vocabulary.py) a clip counts where its true labels map to at least
one group. Its precision and recall compare the sets of predicted and true groups; both are 0 where
no predicted label survives. F is that of the averages over clips:
F = 2 * precision * recall / (precision + recall)  (AffectGPT repository, OV-MER/wheel.py).

* M-avg: mean of the twelve F (OV-MER, 2410.01495).
* level1, level2: mean over the five wheels of F, precision and recall at that level
  (OV-MERD+ of MER-UniBench and MER2026 Track 2: level1), so F is not the harmonic mean of the two.
* level-mean: mean of the F of level1 and level2 (MER2025 Track 2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ovmer.runners.scoring.labels import EncodedLabels, SetOverlap, overlap
from ovmer.runners.scoring.result import FloatArray, Scores, mean, ratio
from ovmer.runners.scoring.vocabulary import LEVELS, MAPPINGS, WHEELS
from ovmer.runners.scoring.words import WordMetric

_PARTS = ("precision", "recall", "counted")


@dataclass
class WheelMetric(WordMetric):
    """Emotion-wheel metrics of open-vocabulary labels."""

    name: str = "wheel"
    primary: str = "M-avg"

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"{mapping}/{part}" for mapping in MAPPINGS for part in _PARTS)

    def _score(
        self, clips: tuple[str, ...], predictions: Sequence[Any], truth: Sequence[Any]
    ) -> Scores:
        predicted = self.encode(clips, predictions, "prediction")
        true = self.encode(clips, truth, "truth")
        values = np.empty((len(clips), 12, len(_PARTS)))
        for number in range(12):
            values[:, number] = _contributions(self._overlap(len(clips), predicted, true, number))
        return self.scores(clips, predicted, true, values.reshape(len(clips), -1))

    def _overlap(
        self, clips: int, predicted: EncodedLabels, true: EncodedLabels, mapping: int
    ) -> SetOverlap:
        ours, theirs = (side.codes(self.vocabulary, mapping) for side in (predicted, true))
        return overlap(clips, len(self.vocabulary.groups[mapping]), ours, theirs)

    def aggregate(self, sums: FloatArray) -> dict[str, FloatArray]:
        """Sums (... x 36) of the twelve mappings' precision, recall and count -> figures."""
        scores: dict[str, tuple[FloatArray, FloatArray, FloatArray]] = {}
        for number, mapping in enumerate(MAPPINGS):
            precision, recall, counted = np.moveaxis(sums[..., 3 * number : 3 * number + 3], -1, 0)
            precision = ratio(precision, counted, self.undefined)
            recall = ratio(recall, counted, self.undefined)
            f = ratio(2 * (precision * recall), precision + recall, self.undefined)
            scores[mapping] = (f, precision, recall)
        averages = {}
        for level in LEVELS:
            parts = zip(*(scores[f"M3-W{wheel}-L{level}"] for wheel in WHEELS), strict=True)
            f, precision, recall = (mean(part) for part in parts)
            averages[f"level{level}"] = (f, precision, recall)
        figures = {
            "M-avg": mean([f for f, _, _ in scores.values()]),
            "level-mean": mean([f for f, _, _ in averages.values()]),
        }
        for name, (f, precision, recall) in (averages | scores).items():
            figures |= {name: f, f"{name}/precision": precision, f"{name}/recall": recall}
        return figures


def _contributions(sizes: SetOverlap) -> FloatArray:
    """(clips x 3): precision, recall, counted."""
    counted = sizes.true > 0
    both = np.where(counted, sizes.both, 0).astype(float)
    precision = both / np.maximum(sizes.predicted, 1)
    recall = both / np.maximum(sizes.true, 1)
    return np.stack([precision, recall, counted.astype(float)], axis=1)
