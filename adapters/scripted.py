"""A fake MLLM that plays back a script: answers, failures, delays and deaths, for tests.

It goes the fast path (`prepare` and `generate`), so that a test drives the very code that a real
model runs through.
"""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from ovmer.adapters.base import AUDIO, SUBTITLE, VIDEO, Adapter, Answer, Prepared
from ovmer.adapters.registry import register
from ovmer.baselines.errors import (
    ClipError,
    MissingModality,
    OutOfMemory,
    PrerequisiteError,
    Refused,
    Timeout,
    Unreadable,
)

_FAILURES: dict[str, type[Exception]] = {
    "unreadable": Unreadable,
    "missing_modality": MissingModality,
    "out_of_memory": OutOfMemory,
    "timeout": Timeout,
    "refused": Refused,
    "bug": ZeroDivisionError,
}
_DIE = "die"


@register("scripted")
@dataclass
class Scripted(Adapter):
    """Answers by the clip's file name (its stem), else with `default`.

    `prepare_fails` and `generate_fails` name clips and what befalls them: unreadable,
    missing_modality, out_of_memory, timeout, refused, `bug` (an unforeseen exception) or `die`
    (SIGKILL to the process). With `generate_fails`, `bug` and `out_of_memory` raise from `generate`
    itself, so that the whole batch fails; the others are returned instead of the clip's answer.
    """

    answers: dict[str, str] = field(default_factory=dict)
    default: str = "The person smiles; he is happy and a little surprised."
    prepare_fails: dict[str, str] = field(default_factory=dict)
    generate_fails: dict[str, str] = field(default_factory=dict)
    prepare_seconds: float = 0.0
    generate_seconds: float = 0.0
    """Seconds that each clip takes in either half."""
    labels: bool = False
    """Whether the answers are labels already (sets `answers_with_labels`)."""

    modalities: ClassVar[frozenset[str]] = frozenset({VIDEO, AUDIO, SUBTITLE})

    def __post_init__(self) -> None:
        unknown = {*self.prepare_fails.values(), *self.generate_fails.values()}
        unknown -= {*_FAILURES, _DIE}
        if unknown:
            raise PrerequisiteError(
                f"scripted: unknown failures {sorted(unknown)}; choose from {[*_FAILURES, _DIE]}"
            )
        if self.labels:
            self.answers_with_labels = True  # type: ignore[misc]  # a fake may vary by instance

    def asking(self, question: str) -> Self:
        """Answers come from the script, whatever is asked."""
        return self

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        time.sleep(self.prepare_seconds)
        name = next((path.stem for path in (video, audio) if path), "")
        if name in self.prepare_fails:
            raise _failure(self.prepare_fails[name], name)
        return Prepared(name)

    def generate(self, batch: list[Prepared]) -> Sequence[str | Answer | ClipError]:
        time.sleep(self.generate_seconds * len(batch))
        return [self._answer(item.inputs) for item in batch]

    def _answer(self, name: str) -> str | Answer | ClipError:
        if name in self.generate_fails:
            error = _failure(self.generate_fails[name], name)
            if isinstance(error, ClipError) and not isinstance(error, OutOfMemory):
                return error
            raise error
        text = self.answers.get(name, self.default)
        return Answer(text, prompt_tokens=len(name), new_tokens=len(text.split()))


def _failure(kind: str, name: str) -> Exception:
    if kind == _DIE:
        os.kill(os.getpid(), signal.SIGKILL)
    return _FAILURES[kind](f"{name}: scripted {kind}")
