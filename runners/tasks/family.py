"""Classes -> figures: what each clip adds to a set of columns, and what follows from their sums.

Every figure is a function of column sums, so the bootstrap and the paired tests of
runners/scoring take it as they take the others. A family reads the replies itself, since the
benchmarks differ in what becomes of a reply without a label (`unknown`): it is `wrong`, or the
clip is left out (`drop`).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovmer.runners.scoring.result import FloatArray, Rows
from ovmer.runners.tasks.parsers import PARSERS, WORD_IN_REPLY

UNKNOWN = ("wrong", "drop")
"""What becomes of a reply without a label."""
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Case:
    """One clip: what was replied and what is true."""

    name: str
    reply: str
    truth: tuple[str, ...]
    """One label, several, or one for each part of the answer."""
    group: str = ""
    """The part of the benchmark that the clip belongs to, such as its problem type."""
    choices: tuple[str, ...] = ()
    """The clip's own answers to choose from."""


@dataclass(frozen=True)
class FamilyFigures:
    """A family's figures for the cases."""

    values: FloatArray
    """(clips x columns)"""
    readings: Sequence[str | None]
    """The reading of each reply, for tables; None: unknown."""
    tables: Mapping[str, Rows]
    classes: Sequence[object] | None = None
    """Values by which two protocols are compared, if not by the readings."""


class Family(ABC):
    """Figures of one kind under one protocol."""

    columns: tuple[str, ...]
    graded: tuple[str, ...] = ()
    """The columns whose sum is a clip's grade, for families that have grades and no classes."""
    unbounded: tuple[str, ...] = ()
    """The figures that may lie outside [0, 1]."""
    errors: tuple[str, ...] = ()
    """The figures of which less is better."""
    unread_hint: str = ""
    """Said where no reply can be read."""

    @abstractmethod
    def count(self, cases: Sequence[Case]) -> FamilyFigures:
        """Read every reply. The column `clips` is 1, and `unknown` where nothing was read."""

    @abstractmethod
    def aggregate(self, sums: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Column sums by name -> figures by name."""

    def counted_clips(self, values: FloatArray) -> BoolArray:
        """Which clips (rows of `values`) the figures are over: all, where no column says it. A
        reply that earns nothing counts; one that the protocol drops does not."""
        at = [i for i, c in enumerate(self.columns) if c == "counted" or c.endswith("/true")]
        if not at:
            return np.ones(len(values), dtype=np.bool_)
        return np.any(values[:, at] != 0, axis=1)

    @property
    def about(self) -> str:
        """How a reply is read, as half a sentence."""
        return ""


def where_counted(figures: Mapping[str, FloatArray], counted: FloatArray) -> dict[str, FloatArray]:
    """The figures, undefined (NaN) where no clip counts."""
    return {name: np.where(counted > 0, value, np.nan) for name, value in figures.items()}


def rule(parser: str) -> str:
    """The first sentence about a parser, for use inside another sentence."""
    if parser == WORD_IN_REPLY:
        return "right if the true word is anywhere in the reply (Emotion-Qwen)"
    first = (PARSERS[parser].__doc__ or "").strip().split(".")[0]
    return first[:1].lower() + " ".join(first[1:].split())


def policy(unknown: str) -> str:
    """How a reply without a label is counted."""
    return "left out" if unknown == "drop" else "wrong"
