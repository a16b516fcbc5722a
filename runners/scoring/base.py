"""The contract of a metric, and what all of them do alike: matching clips by name."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from ovmer.baselines.errors import PrerequisiteError, one_of
from ovmer.runners.scoring.parsing import Labels
from ovmer.runners.scoring.result import FloatArray, Scores

MISSING = ("error", "zero", "skip")
"""A clip without a prediction: an error; counted as no labels; left out."""

_SHOWN = 5  # names in a message


_USUAL = ("M-avg", "level1", "level2")
_SECOND = ("UAR", "weighted-F1", "F1", "reasoning", "BLEU")


def headlines(primary: str, figures: Iterable[str]) -> list[str]:
    """The figures that a narrow table shows: the primary one, then those that belong beside it.

    Of a wheel metric its levels; of a protocol (`careful/WAR`) one more figure and the share of
    unknown replies.
    """
    protocol, known = primary.rpartition("/")[0], list(figures)
    second = [f"{protocol}/{name}" for name in _SECOND if f"{protocol}/{name}" in known]
    wanted = [primary, *_USUAL, *second[:1], f"{protocol}/unknown"]
    return [name for name in dict.fromkeys(wanted) if name in known]


class Metric(ABC):
    """Turns predicted and true labels into figures. Build one with `make_metric`."""

    name: str
    primary: str
    """The figure that tables show."""
    truth_columns: ClassVar[tuple[str, ...]] = ("openset", "label", "labels", "emotions", "emotion")
    """Names that a file may give the column of the truth, best first."""
    answer_columns: ClassVar[tuple[str, ...]] = ("openset", "labels", "label", "prediction", "pred")
    """The same for the predictions."""
    reads_replies: ClassVar[bool] = False
    """Whether it takes the replies themselves rather than an extractor's labels."""
    uncounted: ClassVar[str] = "nothing in the truth can be scored"
    """Why no clip may count."""

    def explain(self, scores: Scores) -> list[str]:
        """Details for checking a figure, beyond its notes; one sentence each."""
        return []

    def truth_of(self, clip: Any) -> Any:
        """A clip's truth in the form that `score` takes."""
        return clip.labels

    @property
    def conditions(self) -> dict[str, Any]:
        """Settings that must agree between runs in one table, e.g. the vocabulary's edition."""
        return {}

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Names of what each clip contributes."""

    @abstractmethod
    def aggregate(self, sums: FloatArray) -> dict[str, FloatArray]:
        """Sums of the columns (... x columns) -> figures by name, each of shape (...)."""

    @property
    def figure_names(self) -> tuple[str, ...]:
        return tuple(self.aggregate(np.zeros(len(self.columns))))

    def score(
        self,
        predictions: Mapping[str, Labels],
        truth: Mapping[str, Any],
        missing: str = "error",
    ) -> Scores:
        """Score the predictions of the clips in `truth`; both map a clip's name to its labels.

        Predictions of other clips are left out and a note says so, since the challenges ask for
        20,000 predictions and score 1,200.

        Raises PrerequisiteError where clips lack a prediction (unless `missing` is `zero` or
        `skip`), where nothing is left to score, and for a value that is no labels.
        """
        one_of("missing", missing, MISSING)
        if not truth:
            raise PrerequisiteError("the ground truth is empty; give at least one clip with labels")
        clips, notes = _match(predictions, truth, missing)
        predicted = [predictions.get(name) for name in clips]
        scores = self._score(tuple(clips), predicted, [truth[name] for name in clips])
        if not scores.n_counted:
            notes.append(f"no clip counts: {self.uncounted}, so figures say nothing")
        return replace(scores, notes=scores.notes + notes)

    @abstractmethod
    def _score(
        self, clips: tuple[str, ...], predictions: Sequence[Any], truth: Sequence[Any]
    ) -> Scores:
        """Score clips that are matched and sorted; a prediction may be None."""


def _match(
    predictions: Mapping[str, Any], truth: Mapping[str, Any], missing: str
) -> tuple[list[str], list[str]]:
    """The names to score, sorted, and notes about the others."""
    clips = sorted(truth)
    absent = [name for name in clips if name not in predictions]
    surplus = sorted(predictions.keys() - truth.keys())
    if predictions and len(absent) == len(clips) and missing != "zero":
        raise PrerequisiteError(
            f"predictions and truth have no clip in common: {_some(surplus)} against "
            f"{_some(clips)}; do the names differ in a prefix or an ending?"
        )
    notes = []
    if surplus:
        notes.append(f"left out {len(surplus)} predictions without truth: {_some(surplus)}")
    if absent:
        what = f"{len(absent)} of {len(clips)} clips have no prediction ({_some(absent)})"
        if missing == "error":
            raise PrerequisiteError(
                f"{what}; add them, or say missing=skip (they are left out) or missing=zero (they "
                "count as clips without labels, so a failure counts as a wrong answer)"
            )
        notes.append(f"{what}: {'counted as no labels' if missing == 'zero' else 'left out'}")
        if missing == "skip":
            clips = [name for name in clips if name in predictions]
            if not clips:
                raise PrerequisiteError(f"{what}, so nothing is left to score")
    return clips, notes


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def wrong_value(clip: str, whose: str, what: str) -> PrerequisiteError:
    """The error for a clip whose stored value cannot be scored."""
    return PrerequisiteError(
        f"the {whose} of clip {clip!r} is {what}; correct it where it is stored"
    )
