"""Clips of a data set and their true labels, from a csv table or an .npz of labels.

What the authors' loaders do is kept: an empty list of labels is replaced (`empty`), and an index
means a word (`words`). What no label of the data set can be is refused, since a file of
another data set or version would else be scored without a word.
"""

import fnmatch
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.data.table import read_columns
from ovmer.runners.scoring.parsing import shared, string_to_list


@dataclass
class Labels:
    """Location of the list of clips and their true labels; `column: null` if none are published."""

    file: str = "???"
    """A table (see table_files.py), or an .npz of MERBench's kind."""
    split: str | None = None
    """Of an .npz file."""
    key: str = "name"
    column: str | None = "openset"
    names: list[str] = field(default_factory=list)
    """Glob patterns of the clips that belong to the split; none means all."""
    empty: list[str] = field(default_factory=list)
    """Labels used instead of an empty list (`neutral` in the authors' OV-MERD loaders)."""
    words: list[str] = field(default_factory=list)
    """Labels for the indices in an .npz file."""
    space: list[str] = field(default_factory=list)
    """The words that a label may be; none means any."""
    range: list[float] | None = None
    """[lowest, highest], where the truth is a number."""
    expected: int | None = None
    """How many clips the authors' loader insists on."""


def read_truth(root: Path, table: Labels) -> dict[str, tuple[str, ...]]:
    """Every clip's labels, in the file's order; a number is a label too.

    Raises PrerequisiteError for a file that cannot be read, a name that is double or no file name,
    and a label that this data set cannot have.
    """
    path = root / table.file
    labels: dict[str, tuple[str, ...]] = {}
    for name, cell in read_columns(path, table.key, table.column, table.split):
        _refuse_escape(name, path)
        if table.names and not any(fnmatch.fnmatchcase(name, each) for each in table.names):
            continue
        if name in labels:
            raise PrerequisiteError(f"{path} holds the name {name!r} twice")
        found = _labels(path, name, cell, table) if table.column is not None else ()
        labels[name] = shared(found)
    if not labels:
        raise PrerequisiteError(f"{path} holds no clips")
    return labels


def read_clusters(root: Path, table: Labels, column: str) -> dict[str, str]:
    """The name of every clip's cluster, as a column of the label table says."""
    cells = read_columns(root / table.file, table.key, column, table.split)
    return {name: "" if cell is None else str(cell) for name, cell in cells}


def _refuse_escape(name: str, path: Path) -> None:
    """A name becomes part of paths, so it must be one plain file name."""
    if name in {"", ".", ".."} or any(mark in name for mark in "/\\\0"):
        raise PrerequisiteError(f"{path}: {name!r} cannot be the name of a clip")


def _labels(path: Path, name: str, cell: Any, table: Labels) -> tuple[str, ...]:
    if table.range is not None:
        return (_number(path, name, cell, table.range),)
    if table.words and str(cell).isdecimal():
        if int(cell) < len(table.words):
            return (table.words[int(cell)],)
        space = ", ".join(f"{i} {word}" for i, word in enumerate(table.words))
        raise _outside(path, name, cell, f"one of {space}")
    allowed = table.space or table.words
    if not allowed:
        return tuple(string_to_list(cell) or table.empty)
    if cell not in allowed:
        raise _outside(path, name, cell, f"one of {', '.join(allowed)}")
    return (str(cell),)


def _number(path: Path, name: str, cell: Any, bounds: list[float]) -> str:
    low, high = bounds
    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = math.nan
    if not low <= value <= high:  # so NaN is refused too
        raise _outside(path, name, cell, f"a number from {low:g} to {high:g}")
    return repr(value)


def _outside(path: Path, name: str, cell: Any, space: str) -> PrerequisiteError:
    return PrerequisiteError(
        f"{path}: the label of clip {name!r} is {cell!r:.60}, but in this data set it is "
        f"{space}; is the file another one's, or the wrong split or column?"
    )
