"""The two record files of a run folder, one JSON object a line, and how they are kept.

Guaranteed: a record is written by one append and handed to the system at once, so that a process
killed at any moment loses at most the clip at hand; it is forced to the disk at least once a
second, so that a machine that dies loses about a second's. A last line that was cut is removed
when the file is next opened for writing. Of several records of one clip the last one holds.
"""

import fcntl
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ovmer.baselines.errors import PrerequisiteError, Status

_FSYNC_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """A line of `predictions.jsonl`: what became of one clip."""

    name: str
    status: Status
    description: str = ""
    """What the model said; empty where `status` is a failure."""
    error: str | None = None
    """Why it failed, in one sentence."""
    seconds: float = 0.0
    """Preparing this clip, plus its share of the batch that it was answered in."""
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    notes: tuple[str, ...] = ()
    thinking: str = ""
    """What the model thought before it answered; no part of the description, and not scored."""
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    """What the answer was made from, see `run_folder.fingerprint`."""

    @property
    def failed(self) -> bool:
        return self.status not in (Status.OK, Status.EMPTY)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A line of `labels.jsonl`: what an extractor found in one description."""

    name: str
    labels: tuple[str, ...]
    raw: str
    """The extractor's answer before it was parsed."""
    key: str
    """Hash of the description and of the extractor's settings: either one changed, it is redone."""
    notes: tuple[str, ...] = ()
    trail: Mapping[str, str] = field(default_factory=dict)
    """What stands between description and labels, by step."""
    error: str | None = None
    """Why there are no labels, in one sentence; asked again by the next run."""


R = TypeVar("R", Prediction, Labelled)


def read_records(path: Path, kind: type[R]) -> list[R]:
    """The records of a file in the order they were made; none if there is no file.

    A last line without its end is left out. Raises PrerequisiteError for any other line that is
    no record.
    """
    lines = _whole_lines(path)
    try:
        # All at once, which takes half the time of line by line.
        return [_revive(kind, values) for values in json.loads(f"[{','.join(lines)}]")]
    except (ValueError, TypeError, AttributeError):
        for number, line in enumerate(lines, start=1):
            _check(path, number, line, kind)
        raise


def _check(path: Path, number: int, line: str, kind: type[R]) -> None:
    try:
        _revive(kind, json.loads(line))
    except (ValueError, TypeError, AttributeError) as error:
        raise PrerequisiteError(
            f"{path}, line {number} is no record ({error}); remove that line, or the file"
        ) from error


def _whole_lines(path: Path) -> list[str]:
    try:
        lines = path.read_bytes().decode("utf-8", "replace").split("\n")
    except FileNotFoundError:
        return []
    return lines[:-1]  # what follows the last line end: nothing, or a line that was cut


def _revive(kind: type[R], values: dict[str, Any]) -> R:
    for key in ("labels", "notes"):
        if key in values:
            values[key] = tuple(values[key])
    if "status" in values:
        values["status"] = Status(values["status"])
    return kind(**values)


class RecordWriter(Generic[R]):
    """Appends to one record file; while it is open no other process can open it so."""

    def __init__(self, path: Path) -> None:
        """Raises PrerequisiteError where another process is writing."""
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._cut_torn_line()
        except BlockingIOError as error:
            os.close(self._file)
            raise PrerequisiteError(
                f"another run is writing to {path.parent}; wait until it ends, or stop it"
            ) from error
        self._synced = time.monotonic()

    def _cut_torn_line(self) -> None:
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.ftruncate(self._file, self._path.read_bytes().rfind(b"\n") + 1)

    def append(self, record: R) -> None:
        """Raises OSError, naming the file, where the disk does not take it."""
        # Not `asdict`, which copies deeply and takes longer than all the rest.
        values = {each.name: getattr(record, each.name) for each in fields(record)}
        text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
        # A path in an error may hold bytes that are no UTF-8; they become question marks.
        line = memoryview(text.encode("utf-8", "replace") + b"\n")
        try:
            while line:
                line = line[os.write(self._file, line) :]
            if time.monotonic() - self._synced > _FSYNC_SECONDS:
                self.sync()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def sync(self) -> None:
        os.fsync(self._file)
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            self.sync()
        except OSError:
            if error is None:  # else the disk has failed already, and that error says more
                raise
        finally:
            os.close(self._file)
