"""The two record files of a run folder, one JSON object a line, and how they are kept.

Guaranteed: a record is written by one append and handed to the system at once, so that a process
killed at any moment loses at most the clip at hand; it is forced to the disk at least once a
second, so that a machine that dies loses about a second's. A last line that was cut is removed
when the file is next opened for writing. Of several records of one clip the last one holds.
"""

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import accumulate, islice
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ovmer.baselines.errors import PrerequisiteError, Status
from ovmer.runners.disk import force_to_disk, lock, read_lines
from ovmer.runners.folder.run_json import ANSWERED
from ovmer.runners.typed import from_json

_FSYNC_SECONDS = 1.0
_READ_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Prediction:
    """A line of `predictions.jsonl`: what became of one clip."""

    name: str
    status: Status
    description: str = ""
    """The model's answer; empty if `status` is a failure."""
    error: str | None = None
    """Why it failed, in one sentence."""
    seconds: float = 0.0
    """Preparing this clip, plus its share of the batch that it was answered in."""
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    notes: tuple[str, ...] = ()
    thinking: str = ""
    """The model's thinking before the answer; no part of the description, and not scored."""
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    """Of the clip's files and words that the answer was made from."""
    made_by: str = ""
    """`identity_digest` of the run."""

    @property
    def failed(self) -> bool:
        return self.status not in ANSWERED


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """A line of `labels.jsonl`: an extractor's labels for one description."""

    name: str
    labels: tuple[str, ...]
    raw: str
    """The extractor's answer before it was parsed."""
    key: str
    """See `label_key`."""
    notes: tuple[str, ...] = ()
    trail: Mapping[str, str] = field(default_factory=dict)
    """Intermediate texts, by step."""
    error: str | None = None
    """Why there are no labels, in one sentence; asked again by the next run."""


R = TypeVar("R", Prediction, LabelRecord)


def label_key(
    name: str,
    text: str,
    subtitle: str | None,
    is_labels: bool,
    extractor: str,
    truth: Sequence[str] = (),
) -> str:
    """The key in labels.jsonl of an extractor's labels for a description.

    A hash of the description and of the extractor (`identity_text`): labels do not outlive either.
    `truth` is for a judge, whose answer depends on it as well.
    """
    text = "\n".join([text, *truth])
    merged = "-" if subtitle is None else f"+{subtitle}"
    return digest(name, text, merged, str(is_labels), extractor, size=12)


def identity_text(identity: Mapping[str, Any]) -> str:
    """An extractor's identity as `label_key` takes it."""
    return json.dumps(dict(identity), sort_keys=True, default=str)


def digest(*words: str, size: int = 6) -> str:
    """Hash of texts, in hexadecimal; `size` is in bytes."""
    return digest_of(words, size)


def digest_of(words: Iterable[str], size: int = 6) -> str:
    """The same, of words that are drawn one after the other."""
    found = hashlib.blake2b(digest_size=size)
    for word in words:
        # The lengths keep ("ab", "c") and ("a", "bc") apart.
        found.update(f"{len(word)}:{word}".encode("utf-8", "replace"))
    return found.hexdigest()


def read_records(path: Path, kind: type[R]) -> Iterator[R]:
    """The records of a file in the order they were made, as they are drawn; none if there is no
    file.

    A last line without its end is left out. Raises PrerequisiteError for any other line that is
    no record.
    """
    return (record for _, record in placed_records(path, kind))


def placed_records(path: Path, kind: type[R]) -> Iterator[tuple[int, R]]:
    """The same, each record behind its place in the file."""
    first = place = 0
    for lines in read_lines(path, _READ_AT_ONCE):
        *places, place = accumulate(map(len, lines), initial=place)
        yield from zip(places, _records(path, first, lines, kind), strict=True)
        first += len(lines)


def records_at(path: Path, kind: type[R], places: Iterable[int]) -> Iterator[R]:
    """The records of a file at places that `placed_records` or `RecordWriter.append` returned."""
    places = iter(places)
    while some := list(islice(places, _READ_AT_ONCE)):
        lines = []
        with path.open("rb") as file:  # not before: without places there may be no file
            for place in some:
                file.seek(place)
                lines.append(file.readline())
        yield from _records(path, 0, lines, kind)


def _records(path: Path, first: int, lines: Sequence[bytes], kind: type[R]) -> list[R]:
    texts = [line.decode("utf-8", "replace") for line in lines]
    try:
        # All at once, which takes half the time of line by line.
        values = json.loads(f"[{','.join(texts)}]")
        if len(values) == len(texts):
            return [from_json(kind, each) for each in values]
    except (ValueError, RecursionError):
        pass
    return [_record(path, first + at, text, kind) for at, text in enumerate(texts, start=1)]


def _record(path: Path, number: int, line: str, kind: type[R]) -> R:
    try:
        return from_json(kind, json.loads(line))
    except (ValueError, RecursionError) as error:
        raise PrerequisiteError(
            f"{path}, line {number} is no record ({error}); remove that line, or the file"
        ) from error


class RecordWriter(Generic[R]):
    """Appends to one record file; while it is open no other process can open it so."""

    def __init__(self, path: Path) -> None:
        """Raises PrerequisiteError where another process is writing, or `path` is a FIFO."""
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            if stat.S_ISFIFO(os.fstat(self._file).st_mode):
                raise PrerequisiteError(f"{path} is no regular file; remove it")
            self._unlock = lock(self._file, path)
        except BaseException:
            os.close(self._file)
            raise
        try:
            self._cut_torn_line()
        except BaseException:
            self._close()
            raise
        self._synced = time.monotonic()

    def _close(self) -> None:
        try:
            os.close(self._file)
        finally:
            self._unlock()

    def _cut_torn_line(self) -> None:
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.ftruncate(self._file, self._path.read_bytes().rfind(b"\n") + 1)

    def append(self, record: R) -> int:
        """The record's place in the file; OSError, naming it, where the disk does not take it."""
        # Not `asdict`, which copies deeply and takes longer than all the rest.
        values = {each.name: getattr(record, each.name) for each in fields(record)}
        text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
        # A path in an error may hold bytes that are no UTF-8; they become question marks.
        line = memoryview(text.encode("utf-8", "replace") + b"\n")
        try:
            place = os.lseek(self._file, 0, os.SEEK_END)
            while line:
                line = line[os.write(self._file, line) :]
            if time.monotonic() - self._synced > _FSYNC_SECONDS:
                self.sync()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        return place

    def sync(self) -> None:
        force_to_disk(self._file)
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
            self._close()
