"""Metrics over a few classes: weighted F1 (WAF) and accuracy.

WAF is the F1 of each class weighted by the class's share of the true labels; a class that is
neither true nor predicted has F1 0. All of it follows from three counts a class: true positives,
predictions, truths.

* sentiment: MOSI, MOSEI, SIMS, SIMSv2 in MER-UniBench (AffectGPT, 2501.16566). The reply must be
  exactly `positive`, `negative` or `neutral`; anything else counts as neutral. Clips whose true
  value is 0 are dropped; then above 0 against the rest, so neutral counts as negative.
* single_label: one of six words, Track 1 of MER2025 and MER2026.
* preference: which of two descriptions is better, Track 3 of MER2026 (utils/common.py there).
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ovmer.baselines.errors import one_of
from ovmer.runners.scoring.base import Metric, wrong_value
from ovmer.runners.scoring.parsing import string_to_list, visible
from ovmer.runners.scoring.result import Contributions, FloatArray, Scores, Share, ratio

NONE = -1
"""As a true class: the clip is dropped; as a predicted one: it is wrong."""

Pairs = list[tuple[int, int]]
"""(true class, predicted class) of each clip."""


class ClassMetric(Metric):
    """Base: a subclass turns cells into pairs of classes, once or for several tasks."""

    @property
    @abstractmethod
    def tasks(self) -> Mapping[str, tuple[str, ...]]:
        """Prefix of the figures -> names of the classes."""

    @abstractmethod
    def _pairs(
        self, clips: Sequence[str], predictions: Sequence[Any], truth: Sequence[Any]
    ) -> tuple[dict[str, Pairs], list[str]]:
        """The classes of each task, and notes."""

    @property
    def columns(self) -> tuple[str, ...]:
        parts = ("hit", "predicted", "true")
        return tuple(
            f"{prefix}{name}/{part}"
            for prefix, classes in self.tasks.items()
            for name in classes
            for part in parts
        )

    def _score(
        self, clips: tuple[str, ...], predictions: Sequence[Any], truth: Sequence[Any]
    ) -> Scores:
        predictions, truth = ([visible(cell) for cell in side] for side in (predictions, truth))
        pairs, notes = self._pairs(clips, predictions, truth)
        values = np.concatenate(
            [_contributions(pairs[prefix], len(names)) for prefix, names in self.tasks.items()],
            axis=1,
        )
        return Scores(
            metric=self.name,
            primary=self.primary,
            conditions=self.conditions,
            comparable=True,
            contributions=Contributions(clips, self.columns, values),
            aggregate=self.aggregate,
            counted=np.any(values[:, 2::3] > 0, axis=1),
            notes=notes,
            shares=self._shares,
        )

    @property
    def _shares(self) -> dict[str, Share]:
        """Accuracy is a share of clips: hits of all classes, of true ones."""
        shares: dict[str, Share] = {}
        start = 0
        for prefix, classes in self.tasks.items():
            stop = start + 3 * len(classes)
            shares[f"{prefix}accuracy"] = (range(start, stop, 3), range(start + 2, stop, 3))
            start = stop
        return shares

    def aggregate(self, sums: FloatArray) -> dict[str, FloatArray]:
        """Sums (... x three a class) -> WAF and accuracy of each task."""
        figures = {}
        start = 0
        for prefix, classes in self.tasks.items():
            stop = start + 3 * len(classes)
            hit, predicted, true = (sums[..., start + i : stop : 3] for i in range(3))
            f1 = ratio(2 * hit, predicted + true, 0.0)
            clips = _sum(true)
            figures[f"{prefix}WAF"] = ratio(_sum(f1 * true), clips, 0.0)
            figures[f"{prefix}accuracy"] = ratio(_sum(hit), clips, 0.0)
            start = stop
        return figures


def _sum(values: FloatArray) -> FloatArray:
    """Over the last axis, in order."""
    total: FloatArray = np.zeros(values.shape[:-1])
    for i in range(values.shape[-1]):
        total = total + values[..., i]
    return total


def _contributions(pairs: Pairs, classes: int) -> FloatArray:
    """(clips x 3 classes): hit, predicted, true of each class; all 0 for a dropped clip."""
    true, predicted = np.array(pairs, dtype=np.int64).T[:, :, None]
    numbers = np.arange(classes)
    kept = true != NONE
    is_true = (true == numbers) & kept
    is_predicted = (predicted == numbers) & kept
    parts = [is_true & is_predicted, is_predicted, is_true]
    return np.stack(parts, axis=2).reshape(len(pairs), -1).astype(np.float64)


def _text(cell: Any) -> str:
    """A reply as text: nothing is "", and a list (as run folders hold) its labels, joined."""
    return cell if isinstance(cell, str) else ", ".join(string_to_list(cell))


def _each(
    clips: Sequence[str], cells: Sequence[Any], read: Callable[[Any], int], whose: str
) -> list[int]:
    classes = []
    for clip, cell in zip(clips, cells, strict=True):
        try:
            classes.append(read(cell))
        except (TypeError, ValueError) as error:
            raise wrong_value(clip, whose, str(error)) from error
    return classes


@dataclass
class SentimentMetric(ClassMetric):
    """Positive against not positive, the truth being a real number."""

    name: str = "sentiment"
    primary: str = "WAF"

    truth_columns = ("val", "valence", "sentiment", "label")
    answer_columns = ("sentiment", "openset", "labels", "prediction", "pred")

    @property
    def tasks(self) -> Mapping[str, tuple[str, ...]]:
        return {"": ("negative", "positive")}

    def _pairs(
        self, clips: Sequence[str], predictions: Sequence[Any], truth: Sequence[Any]
    ) -> tuple[dict[str, Pairs], list[str]]:
        true = _each(clips, truth, _sign, "truth")
        predicted = _each(
            clips, predictions, lambda cell: int(_text(cell) == "positive"), "prediction"
        )
        known = {"positive", "negative", "neutral"}
        odd = sum(_text(cell) not in known for cell in predictions)
        notes = [f"{true.count(NONE)} clips have the true value 0 and are dropped"]
        if odd:
            notes.append(f"{odd} replies are none of the three words; they count as neutral")
        return {"": list(zip(true, predicted, strict=True))}, notes


def _sign(value: Any) -> int:
    if isinstance(value, list | tuple) and len(value) == 1:  # as a data set's clips hold it
        (value,) = value
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        raise ValueError(f"{value!r:.40}, which is no number")
    return NONE if number == 0 else int(number > 0)


@dataclass
class SingleLabelMetric(ClassMetric):
    """One of a few emotion words a clip."""

    name: str = "single_label"
    primary: str = "WAF"
    labels: Sequence[str] = ("neutral", "angry", "happy", "sad", "worried", "surprise")
    outside: str = "error"
    """A predicted word that is none of them is an `error`, as in the authors' code, or `wrong`."""

    truth_columns = ("discrete", "emo", "emotion", "label", "openset")
    answer_columns = ("discrete", "emo", "emotion", "openset", "labels", "label", "prediction")

    def __post_init__(self) -> None:
        one_of("metric.outside", self.outside, ("error", "wrong"))
        self.labels = tuple(self.labels)

    @property
    def tasks(self) -> Mapping[str, tuple[str, ...]]:
        return {"": tuple(self.labels)}

    def _pairs(
        self, clips: Sequence[str], predictions: Sequence[Any], truth: Sequence[Any]
    ) -> tuple[dict[str, Pairs], list[str]]:
        true = _each(clips, truth, self._known, "truth")
        read = self._known_or_absent if self.outside == "error" else self._any
        predicted = _each(clips, predictions, read, "prediction")
        wrong = predicted.count(NONE)
        notes = [f"{wrong} predictions are none of the {len(self.labels)} words"] if wrong else []
        return {"": list(zip(true, predicted, strict=True))}, notes

    def _any(self, cell: Any) -> int:
        words = string_to_list(cell)
        word = words[0].lower() if len(words) == 1 else None
        return self.labels.index(word) if word in self.labels else NONE

    def _known(self, cell: Any) -> int:
        found = self._any(cell)
        if found == NONE:
            raise ValueError(f"{_text(cell)[:40]!r}, none of {', '.join(self.labels)}")
        return found

    def _known_or_absent(self, cell: Any) -> int:
        return self._known(cell) if string_to_list(cell) else NONE


_PREFERENCES = ("a1", "a2", "same")
# What an absent word counts as; one that first occurs beyond it loses (utils/common.py).
_ABSENT = 10_000


@dataclass
class PreferenceMetric(ClassMetric):
    """Accuracy of preferences between two descriptions of a clip: a1, a2, or same."""

    name: str = "preference"
    primary: str = "two-class/WAF"

    truth_columns = ("preference", "label")
    answer_columns = ("preference", "reply", "prediction", "pred", "openset", "labels")

    @property
    def tasks(self) -> Mapping[str, tuple[str, ...]]:
        return {"two-class/": _PREFERENCES[:2], "three-class/": _PREFERENCES}

    def _pairs(
        self, clips: Sequence[str], predictions: Sequence[Any], truth: Sequence[Any]
    ) -> tuple[dict[str, Pairs], list[str]]:
        true = _each(clips, truth, _preference, "truth")
        predicted = _each(
            clips, predictions, lambda cell: read_preference(_text(cell)), "prediction"
        )
        same = _PREFERENCES.index("same")
        two = [
            (NONE if t == same else t, 0 if p == same else p)
            for t, p in zip(true, predicted, strict=True)
        ]
        three = list(zip(true, predicted, strict=True))
        note = f"two-class: {true.count(same)} clips with the truth `same` are dropped"
        return {"two-class/": two, "three-class/": three}, [note]


def _preference(cell: Any) -> int:
    word = _text(cell).strip().lower()
    if word not in _PREFERENCES:
        raise ValueError(f"{word[:40]!r}, none of {', '.join(_PREFERENCES)}")
    return _PREFERENCES.index(word)


def read_preference(reply: str) -> int:
    """The index in (a1, a2, same) of a reply; the authors' rule, `same` if unsure."""
    reply = reply.lower()
    for number, word in enumerate(_PREFERENCES):
        if reply.startswith(word):
            return number
    found = [reply.find(word) for word in _PREFERENCES]
    if max(found) < 0:
        return _PREFERENCES.index("same")
    indices = [_ABSENT if index < 0 else index for index in found]
    return indices.index(min(indices))
