"""Hit rate: is the one true emotion's wheel group among those of the predicted labels?

MER-UniBench's figure for MER2023, MER2024, MELD and IEMOCAP (AffectGPT, 2501.16566): per wheel, at
level 1, the share of clips that hit, then the mean over the five wheels. A clip whose true word
is not on a wheel is skipped there (neutral always). More labels can only help; `mscore`, which
the authors compute and do not report, is the share of hits among the predicted groups that occur
in the truth at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ovmer.baselines.errors import PrerequisiteError, one_of
from ovmer.runners.scoring.labels import EncodedLabels, overlap
from ovmer.runners.scoring.result import FloatArray, Scores, mean, ratio
from ovmer.runners.scoring.vocabulary import MAPPINGS, WHEELS
from ovmer.runners.scoring.words import WordMetric

INDEX_WORDS: dict[str, tuple[str, ...]] = {
    "none": (),
    "meld": ("anger", "joy", "sadness", "neutral", "disgust", "fear", "surprise"),
    "iemocap": ("happy", "sad", "neutral", "anger"),
}
"""Words of each index in the label files (AffectGPT's data set classes)."""

_PARTS = ("hit", "mscore", "counted")


@dataclass
class HitRateMetric(WordMetric):
    """Hit rate of open-vocabulary labels against one basic emotion a clip."""

    name: str = "hit_rate"
    primary: str = "hit-rate"
    index_words: str = "none"

    truth_columns = ("emo", "emotion", "discrete", "label", "openset")

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("metric.index_words", self.index_words, INDEX_WORDS)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"W{wheel}/{part}" for wheel in WHEELS for part in _PARTS)

    def _score(
        self, clips: tuple[str, ...], predictions: Sequence[Any], truth: Sequence[Any]
    ) -> Scores:
        predicted = self.encode(clips, predictions, "prediction")
        true = self.encode(clips, self._words(truth), "truth")
        sizes = true.flat.sizes
        if sizes.max() > 1:
            clip = int(sizes.argmax())
            raise PrerequisiteError(
                f"the truth of clip {clips[clip]!r} holds {sizes[clip]} labels; hit rate compares "
                "with one basic emotion, metric=wheel with several"
            )
        values = np.concatenate(
            [self._contributions(len(clips), predicted, true, wheel) for wheel in WHEELS], axis=1
        )
        scores = self.scores(clips, predicted, true, values)
        shares = {f"hit-rate/W{k}": ((3 * i,), (3 * i + 2,)) for i, k in enumerate(WHEELS)}
        return replace(scores, shares=shares)

    def _words(self, truth: Sequence[Any]) -> Sequence[Any]:
        """The truth with indices turned into words."""
        indices = [str(cell).strip() for cell in truth]
        if not all(index.isdecimal() for index in indices):
            return truth
        words = INDEX_WORDS[self.index_words]
        top = max(map(int, indices))
        if top >= len(words):
            raise PrerequisiteError(
                f"the truth holds indices up to {top}, which metric.index_words="
                f"{self.index_words} does not know; choose one of {', '.join(INDEX_WORDS)}, or "
                "give words"
            )
        return [words[int(index)] for index in indices]

    def _contributions(
        self, clips: int, predicted: EncodedLabels, true: EncodedLabels, wheel: int
    ) -> FloatArray:
        """(clips x 3): hit, mscore, counted."""
        mapping = MAPPINGS.index(f"M3-W{wheel}-L1")
        groups = len(self.vocabulary.groups[mapping])
        clip, group = predicted.codes(self.vocabulary, mapping)
        truth = true.codes(self.vocabulary, mapping)
        sizes = overlap(clips, groups, (clip, group), truth)
        # The groups that the truth can have; looked up as written, as the authors do.
        occurring = self.vocabulary.codes[
            [self.vocabulary.row(label) for label in true.rows], mapping
        ]
        kept = np.isin(group, occurring)
        possible = overlap(clips, groups, (clip[kept], group[kept]), truth).predicted
        hit = sizes.both.astype(float)
        return np.stack(
            [hit, hit / np.maximum(possible, 1), (sizes.true > 0).astype(float)], axis=1
        )

    def aggregate(self, sums: FloatArray) -> dict[str, FloatArray]:
        """Sums (... x 15) of the five wheels' hits, mscores and counts -> figures."""
        figures: dict[str, FloatArray] = {}
        for name, part in (("hit-rate", 0), ("mscore", 1)):
            wheels = [
                ratio(sums[..., 3 * i + part], sums[..., 3 * i + 2], self.undefined)
                for i in range(len(WHEELS))
            ]
            figures[name] = mean(wheels)
            figures |= {f"{name}/W{k}": value for k, value in zip(WHEELS, wheels, strict=True)}
        return figures
