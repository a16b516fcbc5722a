"""Baselines that cannot run in this environment: a worker in another Python, clip by clip.

worker.py has the protocol; docs/adding_models.md has a worker of twenty lines. What goes wrong:

    no interpreter, no script, an end or silence at the start   the run does not start
    an end in the middle of a clip       the clip is asked once more of a fresh worker, then crashed
    no answer within `timeout`           the worker is ended, the clip recorded as `timeout`
    the answer to another request, a line that is too long, an answer without a text
                                         the clip is recorded as crashed, by a sentence
    one clip after another that ends or silences it
                                         the run stops; what was answered is kept
"""

import secrets
import shutil
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from ovmer.adapters.base import AUDIO, SUBTITLE, VIDEO, Adapter, Answer, Feeding, Machine, Prepared
from ovmer.adapters.registry import register
from ovmer.adapters.thinking import split_thinking
from ovmer.adapters.worker import WorkerDied, WorkerProcess
from ovmer.baselines.errors import (
    ClipError,
    MissingModality,
    OutOfMemory,
    PrerequisiteError,
    Refused,
    Status,
    Timeout,
    Unreadable,
)

_ERRORS: Mapping[str, type[ClipError]] = {
    each.status: each
    for each in (Unreadable, MissingModality, OutOfMemory, Timeout, Refused, ClipError)
}
_KINDS = (VIDEO, AUDIO, SUBTITLE)
_MOST_TOKENS = 1 << 40
"""A count above this is no number of tokens."""
_HOPELESS = 3
"""So many clips in a row that end or silence the worker, and the run stops: loading a model anew
takes minutes."""


@register("external")
@dataclass
class External(Adapter):
    """Asks a worker's `describe`."""

    python: str = ""
    """Its interpreter, or the folder of its virtual or conda environment."""
    worker: str = ""
    """Its script."""
    arguments: list[str] = field(default_factory=list)
    modalities: Any = field(default_factory=lambda: list(_KINDS))  # type: ignore[misc]
    """A list of what it uses: video, audio, subtitle; of an adapter, the set of them."""
    labels: bool = False
    """Whether its answers are labels already (sets `answers_with_labels`)."""
    start_seconds: float = 600.0
    """Until it is ready, its model loaded."""
    timeout: float = 300.0
    """Seconds for a clip."""

    beside_identity: ClassVar[frozenset[str]] = frozenset({"python", "start_seconds", "timeout"})
    named_files: ClassVar[frozenset[str]] = frozenset({"worker"})
    runs_elsewhere: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not set(self.modalities) <= set(_KINDS):
            raise PrerequisiteError(
                f"baseline.modalities is {list(self.modalities)}; choose from {', '.join(_KINDS)}"
            )
        for key in ("start_seconds", "timeout"):
            if getattr(self, key) <= 0:
                raise PrerequisiteError(f"baseline.{key} must be above 0")
        self.modalities = frozenset(self.modalities)
        self.answers_with_labels = self.labels  # type: ignore[misc]  # as the worker's are
        self._question: str | None = None
        self._running: WorkerProcess | None = None
        self._deadly = 0

    @property
    def waits_for(self) -> str:
        return (
            f'waiting for {{"ready": true}} of the worker {self.worker}, for up to '
            f"{self.start_seconds:g} s (baseline.start_seconds)"
        )

    @property
    def feeding(self) -> Feeding:
        return "clip"  # recorded as soon as it is answered

    def load(self, machine: Machine) -> None:
        """Raises PrerequisiteError where the worker does not come up. The machine is its own."""
        self._running = self._started()

    def asking(self, question: str) -> Self:
        asked = copy(self)
        asked._question = question
        return asked

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        return Prepared((video, audio, subtitle, self._question))

    def generate(self, batch: list[Prepared]) -> Sequence[str | Answer | ClipError]:
        answers: list[str | Answer | ClipError] = []
        for item in batch:
            try:
                answers.append(self._answer(item))
            except ClipError as error:
                answers.append(error)
        return answers

    def close(self) -> None:
        if self._running:
            self._running.end()
            self._running = None

    def _answer(self, item: Prepared) -> Answer:
        video, audio, subtitle, question = item.inputs
        request = {
            "video": video and str(video.absolute()),
            "audio": audio and str(audio.absolute()),
            "subtitle": subtitle,
            "seed": item.seed,
        }
        if question is not None:
            request["question"] = question
        notes = list[str]()
        try:
            try:
                reply = self._ask(request)
            except WorkerDied as first:
                notes.append(f"asked twice; of the first worker: {first}")
                reply = self._ask(request)
        except Timeout:
            self._count_deadly("it gave no answer in time")
            raise
        except WorkerDied as error:
            self._count_deadly(str(error))
            raise ClipError(f"the worker came to its end twice on this clip: {error}") from error
        self._deadly = 0
        return _read(reply, notes)

    def _ask(self, request: dict[str, Any]) -> Mapping[str, Any]:
        worker = self._running or self._started()
        self._running = None  # gone, unless it answers
        # Not counted up, so that an answer sent ahead of its request cannot match the next one.
        reply = worker.ask({"id": secrets.randbelow(1 << 32)} | request, self.timeout)
        self._running = worker
        return reply

    def _count_deadly(self, how: str) -> None:
        self._deadly += 1
        if self._deadly == _HOPELESS:
            raise PrerequisiteError(
                f"the worker {self.worker} failed on {_HOPELESS} clips in a row (the last time, "
                f"{how}); what was answered is kept, the same command goes on from there"
            )

    def _started(self) -> WorkerProcess:
        script = Path(self.worker).expanduser()
        if not self.worker or not script.is_file():
            raise PrerequisiteError(
                f"baseline.worker is {self.worker!r}, where there is no script; name the worker's"
            )
        python = self._interpreter()
        try:
            worker = WorkerProcess([python, str(script), *self.arguments])
            worker.wait_ready(self.start_seconds)
        except OSError as error:
            raise PrerequisiteError(f"{python} does not run: {error.strerror}") from error
        except (WorkerDied, ClipError) as error:
            raise PrerequisiteError(
                f"the worker {self.worker} did not get ready: {error}; "
                f'it must print {{"ready": true}} within {self.start_seconds:g} s'
            ) from error
        return worker

    def _interpreter(self) -> str:
        named = Path(self.python).expanduser()
        python = str(named / "bin" / "python" if named.is_dir() else named)
        found = shutil.which(python) if self.python else None
        if found is None:
            raise PrerequisiteError(
                f"baseline.python is {self.python!r}, which is no interpreter and no environment's "
                "folder; name one, e.g. ~/environments/model or ~/environments/model/bin/python"
            )
        return found


def _read(reply: Mapping[str, Any], notes: Sequence[str]) -> Answer:
    """A reply as an answer; raises ClipError if it reports one or is malformed."""
    if error := reply.get("error"):
        kind = _ERRORS.get(reply.get("status", Status.CRASHED), ClipError)
        raise kind(" ".join(_text(error).split()))
    text, extra = reply.get("text"), reply.get("notes", [])
    if not isinstance(text, str) or not isinstance(extra, list):
        raise ClipError("the worker's answer has no text, or notes that are no list")
    thinking, text = split_thinking(_text(text))
    return Answer(
        text,
        _count(reply.get("prompt_tokens")),
        _count(reply.get("new_tokens")),
        (*notes, *map(_text, extra)),
        _text(reply.get("thinking") or thinking),
    )


def _text(value: object) -> str:
    return str(value).encode("utf-8", "replace").decode()  # JSON can spell halves of characters


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value < _MOST_TOKENS else None
