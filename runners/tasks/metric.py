"""One metric for all tasks: the replies of a run, read under one or several protocols.

    protocols:
      humanomni: {parser: exact, figures: [WAR, UAR, UAR-replies]}
      careful: {parser: careful, figures: [WAR, UAR]}

A figure is called PROTOCOL/FIGURE, and PROTOCOL/unknown is the share of replies in which no label
was read. How often protocols disagree is said in a note; `explain` says what each does, and shows
replies that they read differently.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ovmer.baselines.errors import PrerequisiteError, near
from ovmer.runners.scoring.base import Metric
from ovmer.runners.scoring.result import Contributions, FloatArray, Rows, Scores
from ovmer.runners.tasks.closed_set import Choice, ClosedSet, Joint
from ovmer.runners.tasks.family import Case, Family, FamilyFigures
from ovmer.runners.tasks.graded import JudgedText, Rewards, SetF1, StepRatings, TextOverlap
from ovmer.runners.tasks.regression import Regression

FAMILIES: Mapping[str, type[Family]] = {
    "closed_set": ClosedSet,
    "choice": Choice,
    "joint": Joint,
    "set_f1": SetF1,
    "rewards": Rewards,
    "steps": StepRatings,
    "judged_text": JudgedText,
    "text": TextOverlap,
    "regression": Regression,
}
"""Values of a protocol's `family`."""

SAME = "the same"
_SHOWN = 3  # examples of each difference


@dataclass
class ProtocolMetric(Metric):
    """Figures of replies under each of `protocols`."""

    name: str = "protocols"
    primary: str = ""
    labels: Sequence[str] = ()
    """The classes, where the task has any."""
    parts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Part of the answer -> its labels, where one reply holds several."""
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    truth_columns = (
        "truth",
        "label",
        "labels",
        "emotion",
        "answer",
        "ground_truth",
        "gt",
        "solution",
    )
    answer_columns = (
        "reply",
        "response",
        "model_response",
        "description",
        "prediction",
        "pred",
        "answer",
    )
    reads_replies = True
    uncounted = "no clip has a true label and a reply that was read"

    def __post_init__(self) -> None:
        if not self.protocols:
            raise PrerequisiteError("metric.protocols is empty; give at least one")
        # A mistyped protocol is reported before anything is read.
        if self.primary in self._named("errors"):
            raise PrerequisiteError(
                f"metric.primary is {self.primary!r}, of which less is better, and runs are ranked "
                "by the highest; choose another figure, such as CCC"
            )

    @cached_property
    def _families(self) -> dict[str, Family]:
        return {name: self._family(name, dict(keys)) for name, keys in self.protocols.items()}

    def _family(self, name: str, keys: dict[str, Any]) -> Family:
        kind = keys.pop("family", "closed_set")
        if kind not in FAMILIES:
            raise PrerequisiteError(
                f"metric.protocols.{name}.family is {kind!r}; {near(kind, FAMILIES)}"
            )
        known = {each.name: each for each in fields(FAMILIES[kind])}  # type: ignore[arg-type]
        for key, value in {"labels": tuple(self.labels), "parts": dict(self.parts)}.items():
            if key in known and value:
                keys.setdefault(key, value)
        for key in keys:
            if key not in known:
                raise PrerequisiteError(
                    f"metric.protocols.{name} has no key {key!r}; {near(key, known)}"
                )
        needed = {key for key, each in known.items() if each.init and _is_mandatory(each)}
        if absent := sorted(needed - keys.keys()):
            hint = "choices=[a,b]" if "labels" in absent else f"metric.protocols.{name}.{absent[0]}"
            raise PrerequisiteError(
                f"metric.protocols.{name} lacks {', '.join(absent)}; give {hint}"
            )
        plain: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in keys.items()
        }
        if "parts" in plain:
            plain["parts"] = {part: tuple(words) for part, words in plain["parts"].items()}
        return FAMILIES[kind](**plain)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(
            f"{name}/{column}" for name, each in self._families.items() for column in each.columns
        )

    @property
    def conditions(self) -> dict[str, Any]:
        return {"protocols": {name: dict(keys) for name, keys in self.protocols.items()}}

    def is_graded(self, protocol: str) -> bool:
        """Whether a clip has a grade under that protocol, and no class."""
        return bool(self._families[protocol].graded)

    def values(self, protocol: str, scores: Scores) -> list[str | float | None]:
        """The reading of each clip under a protocol: its class or grade, None for nothing.

        In a closed set a word that is no label is nothing, as in `unknown`.
        """
        family = self._families[protocol]
        if not family.graded:
            header, *rows = scores.tables()["readings"]
            column = header.index(protocol)
            labels = family.labels if isinstance(family, ClosedSet) else ()
            read = [row[column] or None for row in rows]
            return [None if labels and each not in labels else each for each in read]
        columns = scores.contributions.columns
        at = [columns.index(f"{protocol}/{name}") for name in ("unknown", *family.graded)]
        picked = scores.contributions.values[:, at]
        return [None if unknown else float(sum(grade)) for unknown, *grade in picked.tolist()]

    def truth_of(self, clip: Any) -> Any:
        return {"truth": list(clip.labels), "group": clip.group, "choices": list(clip.choices)}

    def aggregate(self, sums: FloatArray) -> dict[str, FloatArray]:
        figures, start = dict[str, FloatArray](), 0
        for name, family in self._families.items():
            own = {column: sums[..., start + i] for i, column in enumerate(family.columns)}
            start += len(family.columns)
            figures |= {f"{name}/{figure}": v for figure, v in family.aggregate(own).items()}
        return figures

    def _score(
        self, clips: tuple[str, ...], predictions: Sequence[Any], truth: Sequence[Any]
    ) -> Scores:
        cases = [
            _case(name, reply, true)
            for name, reply, true in zip(clips, predictions, truth, strict=True)
        ]
        found = {name: family.count(cases) for name, family in self._families.items()}
        notes = [self._note(name, each) for name, each in found.items()]
        notes += _disagreements(cases, found)
        if unbounded := sorted(self._named("unbounded")):
            notes.append(f"no shares, but shown times 100 as they are: {', '.join(unbounded)}")
        return Scores(
            metric=self.name,
            primary=self.primary,
            conditions=self.conditions,
            comparable=True,
            contributions=Contributions(
                clips,
                self.columns,
                np.concatenate([each.values for each in found.values()], axis=1),
            ),
            aggregate=self.aggregate,
            counted=np.any(
                [self._families[name].counted_clips(each.values) for name, each in found.items()],
                axis=0,
            ),
            notes=notes,
            tables=lambda: _tables(cases, found),
            unbounded=self._named("unbounded"),
            errors=self._named("errors"),
        )

    def _named(self, kind: Literal["unbounded", "errors"]) -> frozenset[str]:
        """The figures that the families name so, as PROTOCOL/FIGURE."""
        families = self._families.items()
        return frozenset(f"{name}/{each}" for name, f in families for each in getattr(f, kind))

    def _note(self, name: str, counted: FamilyFigures) -> str:
        unknown, clips = int(counted.values[:, 1].sum()), len(counted.values)
        hint = self._families[name].unread_hint if unknown == clips else ""
        return f"{name}: {unknown} of {clips} replies unknown ({100 * unknown / clips:.1f} %){hint}"

    def explain(self, scores: Scores) -> list[str]:
        """How each protocol reads a reply, and replies that they read differently."""
        sentences = [f"{name}: {family.about}" for name, family in self._families.items()]
        header, *rows = scores.tables()["differences"]
        for other in header[3:]:
            at, first = header.index(other), header[2]
            shown = [row for row in rows if row[at] != SAME][:_SHOWN]
            if shown:
                examples = "; ".join(
                    f"{row[1]!r:.60} is {row[2]!s:.24} by {first}, {row[at]!s:.24} by {other}"
                    for row in shown
                )
                sentences.append(f"for instance {examples}")
        return sentences


def _is_mandatory(each: Any) -> bool:
    return each.default is MISSING and each.default_factory is MISSING


def _case(name: str, reply: Any, truth: Any) -> Case:
    """A truth may come as text, as a list, or as {"truth": ..., "group": ..., "choices": ...}."""
    group, choices = "", ()
    if isinstance(truth, Mapping):
        group, choices = str(truth.get("group") or ""), tuple(truth.get("choices") or ())
        truth = truth.get("truth")
    return Case(name, "\n".join(_texts(reply)), _texts(truth), group, choices)


def _texts(value: Any) -> tuple[str, ...]:
    if value is None or value != value:
        return ()
    return tuple(map(str, value)) if isinstance(value, list | tuple) else (str(value),)


def _disagreements(cases: Sequence[Case], found: Mapping[str, FamilyFigures]) -> list[str]:
    """How many replies each other protocol reads differently from the first."""
    (first, ours), *others = found.items()
    counts = {
        name: sum(a != b for a, b in zip(_classes(ours), _classes(theirs), strict=True))
        for name, theirs in others
    }
    words = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    return [f"of {len(cases)} replies read differently from {first}: {words}"] if words else []


def _classes(counted: FamilyFigures) -> Sequence[object]:
    return counted.readings if counted.classes is None else counted.classes


def _differences(cases: Sequence[Case], found: Mapping[str, FamilyFigures]) -> Rows:
    """The replies that some protocol reads differently from the first one."""
    (first, ours), *others = found.items()
    rows: Rows = [["name", "reply", first, *(name for name, _ in others)]]
    mine = _classes(ours)
    for i, case in enumerate(cases):
        cells = [
            SAME if _classes(each)[i] == mine[i] else each.readings[i] or "unknown"
            for _, each in others
        ]
        if any(cell != SAME for cell in cells):
            rows.append([case.name, case.reply, ours.readings[i] or "unknown", *cells])
    return rows


def _tables(cases: Sequence[Case], found: Mapping[str, FamilyFigures]) -> dict[str, Rows]:
    readings: Rows = [["name", "truth", "reply", *found]]
    for i, case in enumerate(cases):
        read = [each.readings[i] or "" for each in found.values()]
        readings.append([case.name, ", ".join(case.truth), case.reply, *read])
    own = {
        f"{name}-{table}": rows
        for name, each in found.items()
        for table, rows in each.tables.items()
    }
    return {"readings": readings, "differences": _differences(cases, found), **own}
