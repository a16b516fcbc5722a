"""Progress and notes of a run, on stderr: stdout is for results."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tqdm import tqdm

from ovmer.baselines.errors import Status
from ovmer.runners.folder.records import Labelled, Prediction

_LINE_SECONDS = 10.0  # between lines where stderr is no terminal
_SHOWN = 5  # failed clips that a summary names for each status


def say(line: str) -> None:
    """A line on stderr that does not break a progress bar."""
    tqdm.write(line, file=sys.stderr)


class Progress:
    """A bar with clips/s and time left; in a log file one line every ten seconds instead."""

    def __init__(self, total: int, what: str) -> None:
        self._what = what
        self._bar = tqdm(
            total=total, desc=what, unit="clip", dynamic_ncols=True, disable=None, leave=False
        )
        self._total, self._count = total, 0
        self._failed = Counter[Status]()
        self._started = self._said = time.monotonic()

    def add(self, done: Prediction | None = None) -> None:
        """Count one more clip; the first failure of each kind is printed at once."""
        self._count += 1
        if done is not None and done.failed:
            if not self._failed[done.status]:
                say(f"{self._what}: {done.name} is {done.status}: {done.error}")
            self._failed[done.status] += 1
            self._bar.set_postfix(failed=self._failed.total(), refresh=False)
        self._bar.update()
        now = time.monotonic()
        if self._bar.disable and now - self._said > _LINE_SECONDS:
            self._said = now
            elapsed = now - self._started
            say(tqdm.format_meter(self._count, self._total, elapsed, 80, self._what, unit="clip"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()


def count_words(counts: Counter[Status]) -> str:
    """`14 ok, 2 unreadable`, in the order of the enum."""
    return ", ".join(f"{counts[status]} {status}" for status in Status if counts[status])


def failure_lines(failed: Sequence[Prediction]) -> list[str]:
    """Which clips failed and why, the first few of each status."""
    lines = []
    for status in Status:
        of_kind = [each for each in failed if each.status is status]
        lines += [f"  {status} {each.name}: {each.error}" for each in of_kind[:_SHOWN]]
        if len(of_kind) > _SHOWN:
            lines.append(f"  {status}: {len(of_kind) - _SHOWN} more, see predictions.csv")
    return lines


def reading_lines(labelled: Sequence[Labelled]) -> list[str]:
    """Notes on answers of the extractor: how many, and the first few of each kind."""
    names: dict[str, list[str]] = {}
    for each in labelled:
        for note in each.notes:
            names.setdefault(note, []).append(each.name)
    return [
        f"{len(of_kind)} of {len(labelled)} descriptions: {note} "
        f"({', '.join(of_kind[:_SHOWN])}{', ...' if len(of_kind) > _SHOWN else ''}; see "
        "labels.jsonl)"
        for note, of_kind in names.items()
    ]
