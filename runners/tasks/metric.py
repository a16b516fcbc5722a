"""One metric for all tasks: the replies of a run, read under one or several protocols.

    protocols:
      humanomni: {parser: exact, figures: [WAR, UAR, UAR-replies]}
      careful: {parser: careful, figures: [WAR, UAR]}

A figure is called PROTOCOL/FIGURE, and PROTOCOL/unknown is the share of replies in which nothing
was read. What a protocol does is said in a note, and so is how often two of them disagree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np

from ovmer.baselines.errors import PrerequisiteError, near
from ovmer.runners.scoring.base import Metric
from ovmer.runners.scoring.result import Contributions, FloatArray, Rows, Scores
from ovmer.runners.tasks.closed_set import Choice, ClosedSet, Joint
from ovmer.runners.tasks.family import Case, Counted, Family
from ovmer.runners.tasks.graded import JudgedText, Rewards, SetF1, Steps, Text
from ovmer.runners.tasks.regression import Regression

FAMILIES: Mapping[str, type[Family]] = {
    "closed_set": ClosedSet,
    "choice": Choice,
    "joint": Joint,
    "set_f1": SetF1,
    "rewards": Rewards,
    "steps": Steps,
    "judged_text": JudgedText,
    "text": Text,
    "regression": Regression,
}
"""What `family` of a protocol may be."""

_SHOWN = 3


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

    def __post_init__(self) -> None:
        if not self.protocols:
            raise PrerequisiteError("metric.protocols is empty; give at least one")
        self._families  # noqa: B018  # a mistyped protocol is said before anything is read

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
        """What each clip was read as under a protocol: its class or grade, None for nothing."""
        family = self._families[protocol]
        if not family.graded:
            header, *rows = scores.tables()["readings"]
            place = header.index(protocol)
            return [row[place] or None for row in rows]
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
            counted=np.any([self._kept(name, each) for name, each in found.items()], axis=0),
            notes=notes,
            tables=lambda: _tables(cases, found),
        )

    def _kept(self, name: str, counted: Counted) -> Any:
        """Which clips add to more than the share of unknown replies."""
        columns = self._families[name].columns
        others = [
            i for i, column in enumerate(columns) if not column.endswith(("clips", "unknown"))
        ]
        return np.any(counted.values[:, others] != 0, axis=1)

    def _note(self, name: str, counted: Counted) -> str:
        unknown = int(counted.values[:, 1].sum())
        return (
            f"{name}: {self._families[name].about}; {unknown} of {len(counted.values)} replies "
            f"are unknown ({100 * unknown / len(counted.values):.1f} %)"
        )


def _is_mandatory(each: Any) -> bool:
    from dataclasses import MISSING

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


def _disagreements(cases: Sequence[Case], found: Mapping[str, Counted]) -> list[str]:
    """How many replies the first protocol and each other one read differently, with examples."""
    (first, ours), *others = found.items()
    notes = []
    for name, theirs in others:
        pairs = zip(cases, ours.readings, theirs.readings, strict=True)
        differ = [(case, a, b) for case, a, b in pairs if a != b]
        if differ:
            shown = "; ".join(
                f"{case.reply!r:.60} is {a or 'unknown'!s:.20} and {b or 'unknown'!s:.20}"
                for case, a, b in differ[:_SHOWN]
            )
            notes.append(
                f"{first} and {name} read {len(differ)} of {len(cases)} replies differently: "
                f"{shown} (all in the breakdown `readings`)"
            )
    return notes


def _tables(cases: Sequence[Case], found: Mapping[str, Counted]) -> dict[str, Rows]:
    readings: Rows = [["name", "truth", "reply", *found]]
    for i, case in enumerate(cases):
        read = [each.readings[i] or "" for each in found.values()]
        readings.append([case.name, ", ".join(case.truth), case.reply, *read])
    own = {
        f"{name}-{table}": rows
        for name, each in found.items()
        for table, rows in each.tables.items()
    }
    return {"readings": readings, **own}
