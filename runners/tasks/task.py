"""The keys of `conf/task/NAME.yaml`: the question for each clip, and how the reply counts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ovmer.baselines.errors import PrerequisiteError, near
from ovmer.runners.explain import to_dataclass

FORMS = ("description", "labels", "reply")
REPLY_EXTRACTOR = {"kind": "reply", "name": "reply"}

_SLOT = re.compile(r"\{(question|choices|options|subtitle)\}")


class TaskClip(Protocol):
    """The fields of a clip that a question is made from."""

    @property
    def name(self) -> str: ...
    @property
    def question(self) -> str | None: ...
    @property
    def choices(self) -> tuple[str, ...]: ...
    @property
    def group(self) -> str: ...


@dataclass
class Task:
    """A question to the model, and how its reply is read.

    A question may hold `{question}` (the clip's own), `{choices}` (joined by commas), `{options}`
    (one a line) and `{subtitle}`.
    """

    name: str = "describe"
    title: str = ""
    question: str | None = None
    """None: the baseline's own question, which asks for a description."""
    with_subtitle: str | None = None
    """Put instead where subtitle=prompt; None: `question` in any case."""
    questions: dict[str, str] = field(default_factory=dict)
    """Put instead to clips of a group, such as a type of question."""
    default_question: str | None = None
    """Replacement for `{question}` for a clip that has none of its own."""
    choices: list[str] = field(default_factory=list)
    """Of a clip that has none of its own."""
    form: str = "description"
    """How the reply is taken: a `description` that an extractor reads, a list of `labels`, or the
    `reply` itself, which the metric's protocols read."""
    system: str | None = None
    """The system message; None: the baseline's."""
    generation: dict[str, Any] = field(default_factory=dict)
    """Keys of the baseline's generation settings that the task's authors set."""
    metric: dict[str, Any] | None = None
    """Replaces the data set's."""
    judge: dict[str, Any] = field(default_factory=dict)
    """With extractor=judge: what is asked of it (runners/extraction/judge.py), and under `metric`
    the metric that reads its answers, where it is another."""

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise PrerequisiteError(f"task.form is {self.form!r}; {near(self.form, FORMS)}")

    @property
    def asks(self) -> bool:
        """Whether the model is put another question than the baseline's own."""
        return self.question is not None

    @property
    def identity(self) -> dict[str, Any]:
        """Settings that change a reply; empty for the baseline's own question."""
        identity = {
            "question": self.question,
            "with_subtitle": self.with_subtitle,
            "questions": dict(self.questions),
            "default_question": self.default_question,
            "choices": list(self.choices),
            "system": self.system,
            "generation": dict(self.generation),
        }
        return {key: value for key, value in identity.items() if value}

    def ask(self, clip: TaskClip, subtitle: str | None) -> str | None:
        """The question for a clip; None for the baseline's own.

        `subtitle` is None where it is not to be used. Raises PrerequisiteError where the template
        needs what the clip has not.
        """
        template = self.questions.get(clip.group, self.question)
        if template is None:
            return None
        if subtitle is not None and self.with_subtitle is not None:
            template = self.with_subtitle
        if clip.question is None and self.default_question is not None:
            template = template.replace("{question}", self.default_question)
        choices = clip.choices or tuple(self.choices)
        values = {
            "question": clip.question,
            "choices": ", ".join(choices) or None,
            "options": "\n".join(choices) or None,
            "subtitle": subtitle,
        }
        return _SLOT.sub(lambda slot: self._value(values, slot[1], clip.name), template)

    def answers(self, clip: TaskClip) -> dict[str, tuple[str, ...]]:
        """Each part of an answer (one without a name where it is one label) and the labels that it
        may be; empty where it is free text.

        A label is in the words of the protocol that renames it: a rule that compares word for word
        reads no other, and the rest read both.
        """
        metric = self.metric or {}
        if parts := metric.get("parts"):
            return {name: tuple(labels) for name, labels in parts.items()}
        protocols = metric.get("protocols", {}).values()
        choices = clip.choices or tuple(self.choices)
        takes_one = {each.get("family", "closed_set") for each in protocols} <= _OF_LABELS
        if not (protocols and choices and takes_one):
            return {}
        words = {label: word for p in protocols for label, word in p.get("rename", {}).items()}
        return {"": tuple(words.get(label, label) for label in choices)}

    def _value(self, values: Mapping[str, str | None], slot: str, clip: str) -> str:
        value = values[slot]
        if value is None:
            raise PrerequisiteError(
                f"task={self.name} asks with {{{slot}}}, {_LACKS[slot].format(clip)}"
            )
        return value


_OF_LABELS = frozenset({"closed_set", "choice"})
"""Families of figures whose replies are one label."""

_LACKS = {
    "question": "but clip {!r} has no question; give question=, or a column `question`",
    "choices": "but clip {!r} has no choices; give choices=[a,b], or a column `choices`",
    "options": "but clip {!r} has no choices; give choices=[a,b], or a column `choices`",
    "subtitle": "but clip {!r} has no subtitle to use; say subtitle=prompt, or set task.question",
}


def make_task(settings: Mapping[str, Any]) -> Task:
    """The task of `conf/task/NAME.yaml`; no settings are the default, a description.

    Raises PrerequisiteError for a wrong key or value.
    """
    return to_dataclass(Task, settings, "task")


def applied(
    task: Mapping[str, Any], metric: Mapping[str, Any], extractor: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metric and the extractor under a task: its own where it has them."""
    made = make_task(task)
    judged = extractor.get("kind") == "judge"
    if judged:
        judge = {key: value for key, value in made.judge.items() if key != "metric"}
        extractor = {**extractor, "judge": judge}
        made.metric = made.judge.get("metric") or made.metric
    if made.metric is not None:
        metric = {"name": made.name, "kind": "protocols", **made.metric}
        if made.choices:
            metric.setdefault("labels", list(made.choices))
    takes_reply = made.form == "reply" and not judged
    return dict(metric), dict(REPLY_EXTRACTOR if takes_reply else extractor)
