"""One label of a few: DFEW, MAFW, RAVDESS, EmoBench-M's sets, MMLA, MELD and IEMOCAP."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

import numpy as np

from ovmer.baselines.errors import PrerequisiteError, near, one_of
from ovmer.runners.scoring.base import wrong_value
from ovmer.runners.scoring.result import FloatArray, Rows, ratio
from ovmer.runners.tasks.family import (
    UNKNOWN,
    Case,
    Family,
    FamilyFigures,
    policy,
    rule,
    where_counted,
)
from ovmer.runners.tasks.parsers import (
    WORD_IN_REPLY,
    Parse,
    make_parser,
    texts_of_parts,
    word_in_reply,
)


class _Counts:
    """The sums of a closed set: per label (... x labels) and in all (...)."""

    def __init__(self, sums: Mapping[str, FloatArray], labels: Sequence[str]) -> None:
        def stack(part: str) -> FloatArray:
            return np.stack([sums[f"{label}/{part}"] for label in labels], axis=-1)

        self.hit, self.predicted, self.true = stack("hit"), stack("predicted"), stack("true")
        self.unread = stack("unread")
        self.clips, self.unknown = sums["clips"], sums["unknown"]
        self.counted = self.true.sum(axis=-1)
        self.strays = sums["strays"]
        """How many classes beyond the labels the replies hold (see `ClosedSet.count`)."""
        self.recall = ratio(self.hit, self.true, 0.0)
        self.precision = ratio(self.hit, self.predicted, 0.0)
        self.f1 = ratio(2 * self.hit, self.predicted + self.true, 0.0)

    def macro(self, values: FloatArray) -> FloatArray:
        """Mean over the classes that are true or replied; a stray class adds 0 to the sum."""
        seen = (self.true + self.predicted > 0).sum(axis=-1) + self.strays
        return ratio(values.sum(axis=-1), seen, 0.0)

    def weighted(self, values: FloatArray) -> FloatArray:
        """Mean over the labels, weighted by how often each is true."""
        return ratio((values * self.true).sum(axis=-1), self.counted, 0.0)

    @property
    def accuracy(self) -> FloatArray:
        return ratio(self.hit.sum(axis=-1), self.counted, 0.0)

    @property
    def recall_of_read(self) -> FloatArray:
        """Mean over all labels of the recall among replies that were read."""
        read = self.true - self.unread
        return ratio(self.hit, read, 0.0).mean(axis=-1)

    @property
    def recall_true(self) -> FloatArray:
        return ratio(self.recall.sum(axis=-1), (self.true > 0).sum(axis=-1), 0.0)


CLOSED_SET_FIGURES: Mapping[str, tuple[str, Callable[[_Counts], FloatArray]]] = {
    "accuracy": ("right clips / clips", lambda c: c.accuracy),
    "WAR": ("weighted average recall, which is the accuracy", lambda c: c.accuracy),
    "UAR": ("mean recall of the true classes", lambda c: c.recall_true),
    "UAR-replies": (
        "mean recall of the classes that are true or replied, as HumanOmni's older script and "
        "Emotion-Qwen have it: each stray word adds a 0",
        lambda c: c.macro(c.recall),
    ),
    "UAR-labels": (
        "mean recall of all labels, a label that is never true counting 0 (ERV on DFEW)",
        lambda c: c.recall.mean(axis=-1),
    ),
    "UAR-read": (
        "as UAR-labels, unknown replies left out of each recall (ERV on MAFW)",
        lambda c: c.recall_of_read,
    ),
    "macro-F1": ("over the classes that are true or replied", lambda c: c.macro(c.f1)),
    "macro-precision": ("over the same, 0 / 0 is 0", lambda c: c.macro(c.precision)),
    "macro-recall": ("over the same, 0 / 0 is 0", lambda c: c.macro(c.recall)),
    "weighted-F1": ("weighted by the true classes", lambda c: c.weighted(c.f1)),
    "weighted-precision": ("the same, 0 / 0 is 0", lambda c: c.weighted(c.precision)),
    "weighted-recall": ("the same, 0 / 0 is 0", lambda c: c.weighted(c.recall)),
}
"""Name -> definition and function. The universe of classes is part of the name."""


@dataclass
class ClosedSet(Family):
    """One of a few labels a clip."""

    labels: tuple[str, ...]
    parser: str
    unknown: str = "wrong"
    figures: tuple[str, ...] = ("accuracy", "UAR", "weighted-F1")
    rename: Mapping[str, str] = field(default_factory=dict)
    """True label -> the protocol's word for it, where they differ."""

    def __post_init__(self) -> None:
        self.labels = tuple(self.rename.get(label, label) for label in self.labels)
        if len(self.labels) < 2:
            raise PrerequisiteError("a closed set needs at least two labels; give choices=[a,b]")
        one_of("unknown", self.unknown, UNKNOWN)
        self.labels = tuple(label.lower() for label in self.labels)
        for figure in self.figures:
            if figure not in CLOSED_SET_FIGURES:
                raise PrerequisiteError(
                    f"there is no figure {figure!r} of a closed set; "
                    f"{near(figure, CLOSED_SET_FIGURES)}"
                )
        parts = ("hit", "predicted", "true", "unread")
        of_labels = [f"{label}/{part}" for label in self.labels for part in parts]
        self.columns = ("clips", "unknown", "strays", *of_labels)

    @cached_property
    def _parse(self) -> Parse | None:
        """None for the rule that needs the truth."""
        return None if self.parser == WORD_IN_REPLY else make_parser(self.parser, self.labels)

    def read(self, case: Case) -> str | None:
        """The reading of a reply: a label, another word, or None."""
        if self._parse is None:
            return word_in_reply(case.reply, case.truth[0]) if case.truth else None
        return self._parse(case.reply)

    def count(self, cases: Sequence[Case]) -> FamilyFigures:
        readings = _once_each(self.read, cases, with_truth=self._parse is None)
        return self.counted(cases, readings)

    def counted(self, cases: Sequence[Case], readings: Sequence[str | None]) -> FamilyFigures:
        """The columns for readings that were made before."""
        number = {label: i for i, label in enumerate(self.labels)}
        width, start = len(self.labels), 3
        values = np.zeros((len(cases), len(self.columns)))
        true = np.array([self._true_class(case, number) for case in cases], dtype=int)
        read = np.array([-1 if r is None else number.get(r, -2) for r in readings], dtype=int)
        values[:, 0] = 1
        values[:, 1] = read < 0
        kept = true >= 0
        if self.unknown == "drop":
            kept &= read != -1
        rows = np.flatnonzero(kept)
        at = start + 4 * true[rows]
        values[rows, at] = true[rows] == read[rows]
        values[rows, at + 2] = 1
        values[rows, at + 3] = read[rows] < 0
        named = np.flatnonzero(kept & (read >= 0))
        values[named, start + 4 * read[named] + 1] = 1
        # Each stray class adds 1 in all, shared by its clips. So its number is
        # exact in the figure, and about constant over the resamples of an interval.
        strays = {int(i): readings[i] or "" for i in rows[read[rows] < 0]}
        often = Counter(strays.values())
        for i, word in strays.items():
            values[i, 2] = 1 / often[word]
        matrix = np.zeros((width, width + 1), dtype=int)
        np.add.at(matrix, (true[rows], np.where(read[rows] < 0, width, read[rows])), 1)
        head = ["true", *self.labels, "unknown"]
        confusion: Rows = [
            head,
            *([t, *r] for t, r in zip(self.labels, matrix.tolist(), strict=True)),
        ]
        classes = np.maximum(read, -1).tolist()  # no label is no label, however it is spelt
        return FamilyFigures(values, readings, {"confusion": confusion}, classes)

    def _true_class(self, case: Case, number: Mapping[str, int]) -> int:
        """The number of the true label; -1 where the truth is empty and the clip cannot count."""
        if len(case.truth) > 1:
            raise PrerequisiteError(
                f"clip {case.name!r} has {len(case.truth)} true labels, so a closed set cannot be "
                "scored; use a data set with one label a clip, or task=describe"
            )
        text = case.truth[0].strip().lower() if case.truth else ""
        if not text:
            return -1
        text = self.rename.get(text, text)
        if text not in number:
            known = ", ".join(self.labels[:12]) + (" ..." if len(self.labels) > 12 else "")
            raise wrong_value(case.name, "truth", f"{case.truth[0]!r:.60}, none of {known}")
        return number[text]

    def aggregate(self, sums: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        counts = _Counts(sums, self.labels)
        figures = {name: CLOSED_SET_FIGURES[name][1](counts) for name in self.figures}
        return where_counted(figures, counts.counted) | {
            "unknown": ratio(counts.unknown, counts.clips, 0.0)
        }

    @property
    def about(self) -> str:
        if self._parse is None:
            return f"{rule(self.parser)}; every other reply counts as unknown, and is wrong"
        return f"{rule(self.parser)}; a reply without a label is {policy(self.unknown)}"


def _once_each(
    read: Callable[[Case], str | None], cases: Sequence[Case], with_truth: bool
) -> list[str | None]:
    """Read each case; equal replies, which closed sets have many of, only once."""
    if with_truth:
        return [read(case) for case in cases]
    known: dict[str, str | None] = {}
    for case in cases:
        if case.reply not in known:
            known[case.reply] = read(case)
    return [known[case.reply] for case in cases]


@dataclass
class Choice(Family):
    """One of the choices that each clip brings: there are no classes, so accuracy is the figure."""

    parser: str
    unknown: str = "wrong"
    columns = ("clips", "unknown", "counted", "right")

    def __post_init__(self) -> None:
        one_of("unknown", self.unknown, UNKNOWN)

    def count(self, cases: Sequence[Case]) -> FamilyFigures:
        values, readings = np.zeros((len(cases), 4)), list[str | None]()
        parsers = dict[tuple[str, ...], Parse]()
        for row, case in zip(values, cases, strict=True):
            choices = tuple(choice.lower() for choice in case.choices)
            true = case.truth[0].strip().lower() if len(case.truth) == 1 else ""
            if true not in choices:
                raise wrong_value(case.name, "truth", f"{case.truth!r:.60}, none of its choices")
            if choices not in parsers:
                parsers[choices] = make_parser(self.parser, choices)
            read = parsers[choices](case.reply)
            unknown = read not in choices
            row[:] = 1, unknown, not (read is None and self.unknown == "drop"), read == true
            readings.append(read)
        return FamilyFigures(values, readings, {})

    def aggregate(self, sums: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        return {
            "accuracy": ratio(sums["right"], sums["counted"], np.nan),
            "unknown": ratio(sums["unknown"], sums["clips"], 0.0),
        }

    @property
    def about(self) -> str:
        return f"{rule(self.parser)}; a reply without a choice is {policy(self.unknown)}"


@dataclass
class Joint(Family):
    """One label for each of several parts; right where all parts are (EmoBench-M's MC-EIU).

    A clip counts where every part was read. Source: Emo-gml/EmoBench-M, MC-EIU.py at 6247d0d and
    `evaluate_joint`.
    """

    parts: Mapping[str, tuple[str, ...]]
    """Name of a part -> its labels."""
    parser: str
    unknown: str = "drop"
    figures: tuple[str, ...] = (
        "accuracy", "weighted-precision", "weighted-recall", "weighted-F1",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if len(self.parts) < 2:
            raise PrerequisiteError("a joint answer needs at least two parts; give parts")
        both = tuple("_".join(each) for each in product(*self.parts.values()))
        closed = {**self.parts, "joint": both}
        self._sets = {
            name: ClosedSet(tuple(labels), "exact", self.unknown, self.figures)
            for name, labels in closed.items()
        }
        self._parsers = [make_parser(self.parser, labels) for labels in self.parts.values()]
        self.columns = tuple(
            f"{name}/{column}" for name, each in self._sets.items() for column in each.columns
        )

    def read(self, text: str) -> list[str | None]:
        """The label of each part. The careful parser reads what is said of that part alone, since
        one word may be a label of several (`neutral`)."""
        is_careful = self.parser == "careful"
        texts = texts_of_parts(text, [*self.parts]) if is_careful else [text] * len(self.parts)
        return [parse(own) for parse, own in zip(self._parsers, texts, strict=True)]

    def count(self, cases: Sequence[Case]) -> FamilyFigures:
        read = [self.read(case.reply) for case in cases]
        truths = [self._true_parts(case) for case in cases]
        whole = [all(each) for each in read]
        values, joint = list[FloatArray](), list[str | None]()
        tables = dict[str, Rows]()
        for index, (name, each) in enumerate(self._sets.items()):
            if name == "joint":
                true = ["_".join(parts) for parts in truths]
                joint = [
                    "_".join(map(str, parts)) if ok else None
                    for parts, ok in zip(read, whole, strict=True)
                ]
                found = joint
            else:
                true = [parts[index] for parts in truths]
                found = [
                    parts[index] if ok else None for parts, ok in zip(read, whole, strict=True)
                ]
            asked = [Case(c.name, c.reply, (t,)) for c, t in zip(cases, true, strict=True)]
            counted = each.counted(asked, found)
            values.append(counted.values)
            tables |= {f"{name}-{table}": rows for table, rows in counted.tables.items()}
        tables.pop("joint-confusion")
        return FamilyFigures(np.concatenate(values, axis=1), joint, tables)

    def _true_parts(self, case: Case) -> list[str]:
        """The truth goes through the parser too, as in the authors' code."""
        if len(case.truth) == len(self.parts):
            found = [parse(text) for parse, text in zip(self._parsers, case.truth, strict=True)]
        else:
            found = self.read(" ".join(case.truth))
        for name, label in zip(self.parts, found, strict=True):
            if label is None:
                raise wrong_value(case.name, "truth", f"{case.truth!r:.60}, without a {name}")
        return [str(label) for label in found]

    def aggregate(self, sums: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        figures = dict[str, FloatArray]()
        for name, each in self._sets.items():
            own = each.aggregate({column: sums[f"{name}/{column}"] for column in each.columns})
            unknown = own.pop("unknown")
            figures |= {f"{name}-{figure}": value for figure, value in own.items()}
            figures["unknown"] = unknown
        return figures

    @property
    def about(self) -> str:
        return (
            f"{rule(self.parser)}, for each of {' and '.join(self.parts)}; "
            f"a reply without one of them is {policy(self.unknown)}"
        )
