"""The labels of many clips as flat arrays, and what fell outside the vocabulary.

Metrics over sets of labels never touch a label twice: each distinct one is looked up once, and
sets are compared as bits.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ovmer.runners.scoring.base import wrong_value
from ovmer.runners.scoring.parsing import Parser, visible
from ovmer.runners.scoring.vocabulary import UNKNOWN, Vocabulary

Ints = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class FlatLabels:
    """The parsed labels of many clips, one after the other.

    One long list rather than one a clip: 20,000 small lists would set off the garbage collector.
    """

    labels: list[str]
    ends: Ints
    """(clips): where in `labels` each clip's end."""
    lone_brackets: int
    """Cells that are the one character `[`, on which the authors' parser throws."""
    zero_width: int = 0
    """Cells from which zero-width characters were removed."""

    @property
    def sizes(self) -> Ints:
        """(clips): how many labels each has."""
        return np.diff(self.ends, prepend=0)

    def of(self, clip: int) -> list[str]:
        """The labels of one clip."""
        return self.labels[self.ends[clip - 1] if clip else 0 : self.ends[clip]]


def parse_all(clips: Sequence[str], cells: Sequence[Any], parser: Parser, whose: str) -> FlatLabels:
    """The labels of every clip; raises PrerequisiteError naming the clip whose value is none."""
    labels: list[str] = []
    ends = []
    changed = 0
    try:
        for cell in cells:
            seen = visible(cell)
            changed += seen is not cell and seen != cell
            labels += parser(seen)
            ends.append(len(labels))
    except TypeError as error:
        raise wrong_value(clips[len(ends)], whose, str(error)) from error
    lone = sum(isinstance(cell, str) and cell == "[" for cell in cells)
    return FlatLabels(labels, np.array(ends, dtype=np.int64), lone, changed)


def parser_notes(flat: FlatLabels, whose: str) -> list[str]:
    """Notes on cells that ours reads otherwise than the authors' parser."""
    notes = []
    if flat.lone_brackets:
        notes.append(
            f"{flat.lone_brackets} cells of the {whose} are a lone `[`, on which the authors' "
            "parser throws; they count as no labels"
        )
    if flat.zero_width:
        notes.append(
            f"zero-width characters were removed from {flat.zero_width} cells of the {whose}"
        )
    return notes


@dataclass(frozen=True)
class EncodedLabels:
    """One side's labels (predicted or true), looked up in a vocabulary."""

    flat: FlatLabels
    clip: Ints
    """(labels): the clip of each label."""
    row: Ints
    """(labels): its row in the vocabulary, UNKNOWN if it has none."""
    rows: dict[str, int]
    """Each distinct label, as parsed -> its row."""

    @cached_property
    def unknown(self) -> Counter[str]:
        """Labels outside the vocabulary, lower-case, with how often they occur."""
        labels = self.flat.labels
        return Counter(labels[i].lower().strip() for i in np.flatnonzero(self.row == UNKNOWN))

    def codes(self, vocabulary: Vocabulary, mapping: int) -> tuple[Ints, Ints]:
        """(clip, group) of every label that survives a mapping; a group may repeat in a clip."""
        code = vocabulary.codes[:, mapping][self.row]
        kept = code >= 0
        return self.clip[kept], code[kept].astype(np.int64)


def encode(flat: FlatLabels, vocabulary: Vocabulary) -> EncodedLabels:
    """Look every label up, lower-cased and stripped as all metrics over a vocabulary do."""
    rows = {label: vocabulary.row(label.lower().strip()) for label in dict.fromkeys(flat.labels)}
    row = np.fromiter(map(rows.__getitem__, flat.labels), np.int64, len(flat.labels))
    clip = np.repeat(np.arange(len(flat.ends)), flat.sizes)
    return EncodedLabels(flat, clip, row, rows)


@dataclass(frozen=True)
class SetOverlap:
    """Sizes of two families of sets and of their intersections, clip by clip."""

    predicted: Ints
    true: Ints
    both: Ints


def overlap(
    clips: int, groups: int, predicted: tuple[Ints, Ints], true: tuple[Ints, Ints]
) -> SetOverlap:
    """Compare the sets given as (clip, group < groups) pairs, in which a pair may repeat."""
    ours, theirs = (_bitsets(clips, groups, *pairs) for pairs in (predicted, true))
    return SetOverlap(_sizes(ours), _sizes(theirs), _sizes(ours & theirs))


def _bitsets(clips: int, groups: int, clip: Ints, group: Ints) -> Bits:
    """(clips x words): each clip's set of groups, 64 to a word."""
    words = groups // 64 + 1
    bits = np.zeros(clips * words, dtype=np.uint64)
    np.bitwise_or.at(
        bits, clip * words + (group >> 6), np.uint64(1) << (group & 63).astype(np.uint64)
    )
    return bits.reshape(clips, words)


def _sizes(bits: Bits) -> Ints:
    return np.bitwise_count(bits).sum(axis=1, dtype=np.int64)
