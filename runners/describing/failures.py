"""Errors of adapters -> `Failure`s, which become records; a lost device ends the run instead."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from ovmer.adapters.base import Answer, Prepared
from ovmer.baselines.errors import ClipError, PrerequisiteError, Status, where
from ovmer.baselines.faults import is_device_lost, is_out_of_memory
from ovmer.runners.folder.records import Prediction

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failure:
    status: Status
    error: str
    cause: Exception


def attempt(call: Callable[[], T]) -> T | Failure:
    """Return what `call` returns, or how it failed. No other function turns errors into records."""
    try:
        return call()
    except PrerequisiteError:
        raise
    except Exception as error:
        return failure(error)


_CRASH = re.compile(r"(\w+).*( \([^()]+, line \d+\))", re.DOTALL)
"""What `failure` writes of an unforeseen error: its type, its message, where it arose."""
MOST_ALIKE = 20
"""Clips that may crash in one way before any is answered: the others would, too."""


class CrashedAlike:
    """Ends a run whose first clips all crash at the same line."""

    def __init__(self) -> None:
        self._count, self._where = 0, set[str]()

    def add(self, prediction: Prediction) -> None:
        """Raises PrerequisiteError at the twentieth clip, if all have crashed alike."""
        crash = _CRASH.fullmatch(prediction.error or "")
        is_crash = prediction.status is Status.CRASHED and crash is not None
        self._where.add("".join(crash.groups()) if crash and is_crash else "")
        self._count += 1
        if self._count == MOST_ALIKE and len(self._where) == 1 and "" not in self._where:
            raise PrerequisiteError(
                f"the first {MOST_ALIKE} clips all crashed at one line, the last being "
                f"{prediction.name}: {prediction.error}; correct that and run again "
                "(on_error=raise shows the stack trace), or, if only these clips crash, ask one "
                "further on first (dataset.clips=[NAME]): then all others are asked as well"
            )


def each_alone(
    call: Callable[[list[Prepared]], list[T | Failure]], batch: list[Prepared]
) -> list[T | Failure]:
    """Call with the whole batch; if that fails, with each item alone."""
    if not batch:
        return []
    results = attempt(lambda: call(batch))
    if not isinstance(results, Failure):
        return results
    if len(batch) == 1:
        return [results]
    return [result for item in batch for result in each_alone(call, [item])]


class _DeviceLost(PrerequisiteError):
    """Every later call on the device would fail as well: the run stops rather than record that."""

    def __init__(self, message: str, clips: Sequence[str] = ()) -> None:
        self.message = message
        at = f" at {', '.join(clips[:8])}{' ...' * (len(clips) > 8)}" if clips else ""
        super().__init__(
            f"the GPU failed{at} and answers this process no more ({message[:200]}); what was "
            "described is kept, the same command goes on from there; if it fails there again, "
            "batch_size=1 tells which clip it is"
        )


def failure(error: Exception) -> Failure:
    """Raises PrerequisiteError where no further clip can be answered: the device is lost, or a
    package is missing."""
    if isinstance(error, ClipError):
        return Failure(error.status, str(error), error)
    if isinstance(error, ModuleNotFoundError):
        raise PrerequisiteError(
            f"the package {error.name} is missing{where(error)}; install it and run again"
        ) from error
    message = " ".join(f"{type(error).__name__}: {error}".split())
    if is_device_lost(error):
        raise _DeviceLost(message) from error
    status = Status.OUT_OF_MEMORY if is_out_of_memory(error) else Status.CRASHED
    return Failure(status, f"{message}{where(error)}", error)


def checked(answer: object) -> Answer | Failure:
    if isinstance(answer, str):
        return Answer(answer)
    if isinstance(answer, Answer):
        return answer
    if isinstance(answer, ClipError):
        return failure(answer)
    raise TypeError(f"generate() answered with {type(answer).__name__}, not with text")


def next_answer(answers: Iterator[tuple[int, object]]) -> tuple[int, Answer | Failure] | None:
    answer = next(answers, None)
    return answer and (answer[0], checked(answer[1]))


@contextmanager
def naming_clips(names: Iterable[str]) -> Iterator[None]:
    """Name the clips at which a device was lost."""
    try:
        yield
    except _DeviceLost as error:
        raise _DeviceLost(error.message, list(names)) from error
