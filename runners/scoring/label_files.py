"""Files of labels -> name: labels. Whoever wrote them: we, the authors, or a spreadsheet.

    .csv .tsv   a header and one row a clip; pandas' missing values are no labels
    .jsonl      one object a line       .json   an object name -> labels, or a list of objects
    .npz        the authors': `filenames` and `fileitems` (labels), or `name2reason` (texts)

The header says which column holds the names and which the labels, or the user does. A file that
says two things of one clip is refused, whatever its kind.
"""

import csv
import json
import pickle
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.scoring.parsing import MISSING

NAME_COLUMNS = (
    "name",
    "names",
    "filename",
    "filenames",
    "clip",
    "sample",
    "video",
    "file",
    "id",
    "video_id",
    "video_name",
)
_LARGEST_CELL = 2**31 - 1  # characters; the csv module refuses more than 131,072 by default
_BROKEN = (zipfile.BadZipFile, pickle.UnpicklingError)


@dataclass(frozen=True)
class Columns:
    """Where to look in a table; None: by the header."""

    wanted: Sequence[str]
    """Names that the labels' column may have, best first."""
    name: str | None = None
    value: str | None = None


@dataclass(frozen=True)
class LabelTable:
    """What a file holds before it is known which column is which."""

    header: dict[Any, str]
    """Key or position of a column -> its name."""
    rows: Iterable[Any]
    """Dicts of a JSON file, lists of cells of a csv file."""
    missing: frozenset[str] = frozenset()
    """Texts that stand for nothing."""


@dataclass
class Read:
    """What a file held."""

    values: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_label_file(path: Path, columns: Columns, allow_pickle: bool = False) -> Read:
    """Read a file of labels.

    Raises PrerequisiteError with one sentence for a file that is missing, empty, not of its kind,
    without the column, or that says two things of one clip.
    """
    try:
        if not path.exists():
            raise PrerequisiteError(f"there is no file or folder {path}")
        if path.stat().st_size == 0:
            raise PrerequisiteError(f"{path} is empty")
        if path.suffix == ".npz":
            return _read_npz(path, allow_pickle)
        reader = _READERS.get(path.suffix)
        if reader is None:
            raise PrerequisiteError(
                f"{path} is of no kind that can be read; give a run folder or one of "
                f"{', '.join([*_READERS, '.npz'])}"
            )
        return collect(path, reader(path), columns)
    except UnicodeDecodeError as error:
        raise PrerequisiteError(f"{path} is not UTF-8 text ({error.reason})") from error
    except OSError as error:
        raise PrerequisiteError(f"{path} cannot be read: {error.strerror or error}") from error


def read_separated(path: Path) -> LabelTable:
    """A csv or tsv file, with the missing values of pandas."""
    with path.open(encoding="utf-8-sig") as file:
        first = file.readline()
    delimiter = "\t" if path.suffix == ".tsv" or ("\t" in first and "," not in first) else ","
    rows = _cells(path, delimiter)
    header = next(rows, [])
    if len(set(header)) < len(header):
        raise PrerequisiteError(f"{path} has two columns of one name: {', '.join(header)}")
    return LabelTable(dict(enumerate(header)), rows, MISSING)


def _cells(path: Path, delimiter: str) -> Iterator[list[str]]:
    """The rows of the file, all as long as the first."""
    csv.field_size_limit(_LARGEST_CELL)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True, delimiter=delimiter)
        width = 0
        try:
            for row in reader:
                width = width or len(row)
                if len(row) == width:
                    yield row
                elif row:  # a blank line is skipped, as pandas does
                    raise PrerequisiteError(
                        f"{path}, line {reader.line_num}: {len(row)} cells where the header has "
                        f"{width}; is a separator not quoted?"
                    )
        except csv.Error as error:
            raise PrerequisiteError(f"{path}, line {reader.line_num}: {error}") from error


def _json_lines(path: Path) -> LabelTable:
    return _json_table(_parsed_lines(path), f"{path}, line")


def _parsed_lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _json(line, f"{path}, line {number}")


def _json_file(path: Path) -> LabelTable:
    value = _json(path.read_text(encoding="utf-8-sig"), str(path))
    if isinstance(value, dict):
        return _pairs(value.items())
    if isinstance(value, list):
        return _json_table(enumerate(value, start=1), f"{path}, item")
    raise PrerequisiteError(f"{path} holds neither a JSON object nor a list")


def _json_table(rows: Iterable[tuple[int, Any]], where: str) -> LabelTable:
    """Objects with a name and labels each; the first one tells their keys."""
    objects = _objects(rows, where)
    first = next(objects, {})
    return LabelTable({key: key for key in first}, chain([first], objects) if first else [])


def _objects(rows: Iterable[tuple[int, Any]], where: str) -> Iterator[dict[str, Any]]:
    for number, row in rows:
        if not isinstance(row, dict):
            raise PrerequisiteError(f"{where} {number} is no JSON object with a name and labels")
        yield row


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unambiguous)
    except (json.JSONDecodeError, RecursionError) as error:
        raise PrerequisiteError(f"{where} is no JSON ({error})") from error
    except ValueError as error:
        raise PrerequisiteError(f"{where}: {error}") from error


def _unambiguous(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a key that stands twice Python would silently take the second value."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if repr(found.setdefault(key, value)) != repr(value):
            raise ValueError(
                f"it says two things of {key!r}: {found[key]!r:.60} and {value!r:.60}; remove one"
            )
    return found


def _pairs(pairs: Iterable[tuple[Any, Any]]) -> LabelTable:
    return LabelTable({0: "name", 1: "labels"}, pairs)


_READERS: dict[str, Callable[[Path], LabelTable]] = {
    ".csv": read_separated,
    ".tsv": read_separated,
    ".txt": read_separated,
    ".jsonl": _json_lines,
    ".json": _json_file,
}


def _read_npz(path: Path, allow_pickle: bool) -> Read:
    import numpy as np

    if not zipfile.is_zipfile(path):  # numpy would take it for a pickle
        raise PrerequisiteError(f"{path} is no npz file; was it cut while it was copied?")
    notes = []
    try:
        with np.load(path, allow_pickle=allow_pickle) as archive:
            if "name2reason" in archive:
                table = _pairs(archive["name2reason"].tolist().items())
                notes = [f"{path} holds name2reason: texts, read as if they were labels"]
            elif {"filenames", "fileitems"} <= set(archive.files):
                names, items = (archive[key].tolist() for key in ("filenames", "fileitems"))
                table = _pairs(zip(names, items, strict=True))
            else:
                raise PrerequisiteError(
                    f"{path} holds {', '.join(archive.files) or 'nothing'}, but neither "
                    "name2reason nor filenames and fileitems"
                )
        found = collect(path, table, Columns(("labels",)))
    except (ValueError, AttributeError, EOFError, *_BROKEN) as error:
        if "allow_pickle" in str(error):
            raise PrerequisiteError(
                f"{path} holds pickled objects, which may run code when they are opened; say "
                "allow_pickle=true if you trust whoever made it"
            ) from error
        raise PrerequisiteError(f"{path} is no npz file of labels ({error})") from error
    found.notes += notes
    return found


def collect(path: Path, table: LabelTable, columns: Columns) -> Read:
    """Rows -> name: labels. A name is taken as it stands: a clip may be called NA."""
    read = Read()
    if not table.header:
        raise PrerequisiteError(f"{path} holds no clips")
    name_key, value_key = _keys(path, table.header, columns)
    again = 0
    for row in table.rows:
        try:
            name, value = row[name_key], row[value_key]
        except KeyError as error:
            raise PrerequisiteError(f"{path} has a row without {error}: {row!r:.80}") from error
        if name is None or name == "" or name != name:
            raise PrerequisiteError(f"{path} has a row without a name: {row!r:.80}")
        name = str(name)
        if isinstance(value, str) and value in table.missing:
            value = None
        if name in read.values:
            if repr(read.values[name]) != repr(value):  # NaN is the same as NaN here
                raise PrerequisiteError(
                    f"{path} says two things of clip {name!r}: {read.values[name]!r:.60} and "
                    f"{value!r:.60}; remove one"
                )
            again += 1
        read.values[name] = value
    if not read.values:
        raise PrerequisiteError(f"{path} holds no clips")
    if again:
        read.notes.append(f"{again} rows of {path} repeat a clip with the same labels")
    return read


def _keys(path: Path, header: dict[Any, str], columns: Columns) -> tuple[Any, Any]:
    """The keys of the columns of names and of labels."""
    name = _pick(path, header, columns.name, NAME_COLUMNS)
    others = {key: column for key, column in header.items() if key != name}
    value = _pick(path, others, columns.value, columns.wanted)
    if value is None and len(others) == 1:  # two columns: what is not the name is the labels
        value = next(iter(others))
    if name is None and len(header) == 2 and value is not None:
        name = next(key for key in header if key != value)
    if name is None or value is None:
        what = "the clips' names" if name is None else "labels"
        raise PrerequisiteError(
            f"which column of {path} holds {what} cannot be told from its header "
            f"({', '.join(header.values()):.200}); say columns.name=, columns.predictions= or "
            "columns.truth="
        )
    return name, value


def _pick(path: Path, header: dict[Any, str], told: str | None, usual: Sequence[str]) -> Any:
    """The key of the column that the user named or, else, that has a usual name; None if none."""
    if told is not None:
        for key, column in header.items():
            if column == told:
                return key
        have = ", ".join(header.values())
        raise PrerequisiteError(f"{path} has no column {told!r}; it has {have:.200}")
    plain = {column.strip().lower(): key for key, column in header.items()}
    return next((plain[name] for name in usual if name in plain), None)
