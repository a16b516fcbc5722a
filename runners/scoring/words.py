"""Base class of the metrics over the vocabulary: settings, look-up and notes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from ovmer.baselines.errors import one_of
from ovmer.runners.scoring.base import Metric
from ovmer.runners.scoring.labels import EncodedLabels, Ints, encode, parse_all, parser_notes
from ovmer.runners.scoring.parsing import PARSERS, friendly_list
from ovmer.runners.scoring.result import Contributions, FloatArray, Rows, Scores
from ovmer.runners.scoring.vocabulary import MAPPINGS, SHIPPED, UNKNOWN, Vocabulary, load_vocabulary

NO_OVERLAP = {"zero": 0.0, "undefined": float("nan")}
"""F without overlap, and all three figures if no clip counts: MER2026's code says 0, the code
of MER2025 and AffectGPT NaN, which spreads into the averages."""
_RULE = {
    "zero": "0 (MER2026's code)",
    "undefined": "NaN (the code of MER2025 and AffectGPT)",
}


@dataclass
class WordMetric(Metric):
    """Base of the metrics that look labels up. Settings are the keys of `conf/metric/`."""

    name: str
    primary: str
    wheel_root: str = "auto"
    edition: str = "mer2025"
    no_overlap: str = "zero"
    parser: str = "strict"

    def __post_init__(self) -> None:
        one_of("metric.no_overlap", self.no_overlap, NO_OVERLAP)
        one_of("metric.parser", self.parser, PARSERS)
        self.vocabulary  # noqa: B018  missing tables end a run at its start

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return load_vocabulary(self.wheel_root, self.edition)

    @property
    def undefined(self) -> float:
        return NO_OVERLAP[self.no_overlap]

    @property
    def conditions(self) -> dict[str, Any]:
        return {
            "vocabulary": self.vocabulary.name,
            "no_overlap": self.no_overlap,
            "parser": self.parser,
        }

    def encode(self, clips: Sequence[str], cells: Sequence[Any], whose: str) -> EncodedLabels:
        return encode(parse_all(clips, cells, PARSERS[self.parser], whose), self.vocabulary)

    def scores(
        self,
        clips: tuple[str, ...],
        predicted: EncodedLabels,
        true: EncodedLabels,
        values: FloatArray,
    ) -> Scores:
        """The scores of what clips contribute (clips x columns), every third of which says whether
        a clip counts."""
        return Scores(
            metric=self.name,
            primary=self.primary,
            conditions=self.conditions,
            comparable=self.vocabulary.comparable,
            contributions=Contributions(clips, self.columns, values),
            aggregate=self.aggregate,
            counted=np.any(values[:, 2::3] > 0, axis=1),
            notes=self.notes(predicted, true),
            unknown=partial(unknown_rows, predicted, true),
            tables=partial(self.tables, clips, predicted, true),
        )

    def tables(
        self, clips: Sequence[str], predicted: EncodedLabels, true: EncodedLabels
    ) -> dict[str, Rows]:
        """Tables of the breakdown, beside the contributions of each clip."""
        return {
            "labels": label_rows(clips, predicted, true),
            "per_cluster": cluster_rows(self.vocabulary, predicted, true),
            "outside_vocabulary": unknown_rows(predicted, true),
        }

    def notes(self, predicted: EncodedLabels, true: EncodedLabels) -> list[str]:
        """The conditions in words, and what was lost on the way."""
        notes = [
            f"vocabulary {self.vocabulary.name}; no overlap counts as {_RULE[self.no_overlap]}"
        ]
        if self.vocabulary.name == SHIPPED:
            notes.append(
                "shipped vocabulary (five wheels and a lemmatiser, no synonyms): "
                "not comparable with papers; get theirs with `ovmer fetch wheels`"
            )
        for whose, side in (("predictions", predicted), ("truth", true)):
            unknown = int((side.row == UNKNOWN).sum())
            if unknown:
                example = max(side.unknown.items(), key=lambda item: item[1])[0]
                notes.append(
                    f"{unknown} of {len(side.row)} labels in the {whose} are not in the "
                    f"vocabulary, e.g. {example[:30]!r}"
                )
            notes += parser_notes(side.flat, whose)
            lost = lost_by_strict(side, self.vocabulary.row) if self.parser == "strict" else 0
            if lost:
                notes.append(
                    f"the strict parser lost {lost} labels in the {whose} "
                    "that metric.parser=friendly reads"
                )
        return notes


def lost_by_strict(side: EncodedLabels, lookup: Callable[[str], int]) -> int:
    """How many labels the strict parser lost that the friendly one finds in the vocabulary.

    Only unknown labels can hide others, and of those there are few distinct ones.
    """
    hidden: dict[str, set[str]] = {}
    for label, row in side.rows.items():
        if row == UNKNOWN:
            inside = {word.lower() for word in friendly_list(label)}
            if found := {word for word in inside if lookup(word) != UNKNOWN}:
                hidden[label] = found
    if not hidden:
        return 0
    lost: dict[int, set[str]] = {}
    for at in np.flatnonzero(side.row == UNKNOWN):
        if found := hidden.get(side.flat.labels[at], set()):
            lost.setdefault(int(side.clip[at]), set()).update(found)
    return sum(
        len(found - {label.lower().strip() for label in side.flat.of(clip)})
        for clip, found in lost.items()
    )


def label_rows(clips: Sequence[str], predicted: EncodedLabels, true: EncodedLabels) -> Rows:
    """The labels compared in each clip, and those outside the vocabulary."""
    rows: Rows = [["name", "truth", "predictions", "truth_outside", "predictions_outside"]]
    for i, clip in enumerate(clips):
        sides = [(side, side.flat.of(i)) for side in (true, predicted)]
        outside = [[each for each in found if side.rows[each] == UNKNOWN] for side, found in sides]
        rows.append([clip, *("; ".join(each) for each in (sides[0][1], sides[1][1], *outside))])
    return rows


def cluster_rows(vocabulary: Vocabulary, predicted: EncodedLabels, true: EncodedLabels) -> Rows:
    """Counts of each mapping and group: the clips that count and have it in the truth, in the
    predictions, in both, and precision, recall and F of the group by itself."""
    rows: Rows = [["mapping", "group", "truth", "predictions", "both", "precision", "recall", "F"]]
    for m, mapping in enumerate(MAPPINGS):
        groups = vocabulary.groups[m]
        ours, theirs = (_pairs(side, vocabulary, m) for side in (predicted, true))
        ours = ours[np.isin(ours // len(groups), theirs // len(groups))]
        keys = (theirs, ours, np.intersect1d(ours, theirs, assume_unique=True))
        counts = [np.bincount(key % len(groups), minlength=len(groups)).tolist() for key in keys]
        for group, in_truth, in_predictions, both in zip(groups, *counts, strict=True):
            if in_truth or in_predictions:
                precision, recall = both / max(in_predictions, 1), both / max(in_truth, 1)
                f = 2 * both / (in_truth + in_predictions)
                rows.append([mapping, group, in_truth, in_predictions, both, precision, recall, f])
    return rows


def _pairs(side: EncodedLabels, vocabulary: Vocabulary, mapping: int) -> Ints:
    """The distinct (clip, group) of one side, as clip * groups + group."""
    clip, group = side.codes(vocabulary, mapping)
    return np.unique(clip * len(vocabulary.groups[mapping]) + group)


def unknown_rows(predicted: EncodedLabels, true: EncodedLabels) -> Rows:
    """Labels outside the vocabulary: label, times in the truth, times in the predictions."""
    counts = [
        (label, true.unknown[label], predicted.unknown[label])
        for label in true.unknown | predicted.unknown
    ]
    counts.sort(key=lambda row: (-row[1] - row[2], row[0]))
    return [["label", "truth", "predictions"], *map(list, counts)]
