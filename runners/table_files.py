"""Tables of rows: the one reader of .csv, .tsv, .txt, .json, .jsonl and .parquet files.

Guaranteed: UTF-8 with or without a byte-order mark, quoted cells with separators, quotes and new
lines, cells of up to 2 GB, no pickles, and one sentence naming file and line for whatever cannot be
read. The caller interprets columns and missing values.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ovmer.baselines.errors import PrerequisiteError, first_line

_LARGEST_CELL = 2**31 - 1  # characters; the csv module refuses more than 131,072 by default
_PARQUET_ROWS = 4096
_MARKS = {"\t": "tab", ";": "semicolon"}


@dataclass(frozen=True)
class TableFile:
    """A file's header and rows, before columns are interpreted."""

    header: dict[Any, str]
    """Key or index of a column -> its name."""
    rows: Iterable[Any]
    """Dicts of a JSON file, lists of cells of a csv file."""
    is_text: bool = False
    """True where every cell is text, so that missing values are spelled in some way."""


def read_table(path: Path, *, fill: bool = False) -> TableFile:
    """The header of a table and its rows, which are read as they are drawn.

    `fill` fills rows that are too short with empty cells, as pandas does; else they are refused.
    Raises PrerequisiteError for a file that is missing, empty, or not of its kind; drawing the rows
    raises it too.
    """
    if not path.exists():
        raise PrerequisiteError(f"there is no file or folder {path}")
    reader = READERS.get(path.suffix.lower())
    if reader is None or path.is_dir():
        raise PrerequisiteError(
            f"{path} is of no kind that can be read; give one of {', '.join(READERS)}"
        )
    with explained(path):
        if path.stat().st_size == 0:
            raise PrerequisiteError(f"{path} is empty")
        table = _separated(path, fill) if reader is _separated else reader(path)
    return TableFile(table.header, _explaining(path, table.rows), table.is_text)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn errors of reading `path` into a PrerequisiteError."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise PrerequisiteError(_wrong_encoding(path, error)) from error
    except OSError as error:
        raise PrerequisiteError(f"{path} cannot be read: {error.strerror or error}") from error


def _explaining(path: Path, rows: Iterable[Any]) -> Iterator[Any]:
    with explained(path):
        yield from rows


def _wrong_encoding(path: Path, error: UnicodeDecodeError) -> str:
    found = f"{path} is not UTF-8 text ({error.reason})"
    likely = _likely_encoding(path)
    if likely is None:
        return found
    return f"{found}, probably {likely}; convert it with: iconv -f {likely} -t utf-8 FILE > NEW"


def _likely_encoding(path: Path) -> str | None:
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    # Most bytes are some text in both; in a real one of gb18030 the high bytes come in pairs.
    high = re.findall(rb"[\x80-\xff]+", content)
    are_pairs = 2 * sum(len(each) % 2 for each in high) < len(high)
    for name in ("gb18030", "cp1252") if are_pairs else ("cp1252", "gb18030"):
        try:
            content.decode(name)
        except UnicodeDecodeError:
            continue
        return name
    return None


def _separated(path: Path, fill: bool = False) -> TableFile:
    """A csv or tsv file."""
    with path.open(encoding="utf-8-sig") as file:
        first = file.readline()
    if "\0" in first:
        raise PrerequisiteError(
            f"{path} is not UTF-8 text, probably utf-16-le; convert it with: "
            "iconv -f utf-16-le -t utf-8 FILE > NEW"
        )
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(first)
    rows = _cells(path, delimiter, fill)
    header = next(rows, [])
    if len(set(header)) < len(header):
        raise PrerequisiteError(f"{path} has two columns of one name: {', '.join(header)}")
    return TableFile(dict(enumerate(header)), rows, is_text=True)


def _delimiter(header: str) -> str:
    """A comma if there is one; else a tab, or the semicolon of spreadsheets in half of Europe."""
    return next((mark for mark in (",", *_MARKS) if mark in header), ",")


def _cells(path: Path, delimiter: str, fill: bool) -> Iterator[list[str]]:
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
                elif row and fill and len(row) < width:
                    yield row + [""] * (width - len(row))
                elif row:  # a blank line is skipped, as pandas does
                    raise PrerequisiteError(
                        f"{path}, line {reader.line_num}: {len(row)} cells where the header has "
                        f"{width}; is a {_MARKS.get(delimiter, 'comma')} not quoted?"
                    )
        except csv.Error as error:
            raise PrerequisiteError(f"{path}, line {reader.line_num}: {error}") from error


def _json_lines(path: Path) -> TableFile:
    return _json_table(_parsed_lines(path), f"{path}, line")


def _parsed_lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _json(line, f"{path}, line {number}")


def _json_file(path: Path) -> TableFile:
    value = _json(path.read_text(encoding="utf-8-sig"), str(path))
    if isinstance(value, dict):
        return TableFile({0: "name", 1: "labels"}, value.items())
    if isinstance(value, list):
        return _json_table(enumerate(value, start=1), f"{path}, item")
    raise PrerequisiteError(f"{path} holds neither a JSON object nor a list")


def _json_table(rows: Iterable[tuple[int, Any]], where: str) -> TableFile:
    """Objects with the same keys; the first one tells them."""
    objects = _objects(rows, where)
    first = next(objects, {})
    return TableFile({key: key for key in first}, chain([first], objects) if first else [])


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
    """An object; of a repeated key Python would silently take the second value."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if repr(found.setdefault(key, value)) != repr(value):
            raise ValueError(
                f"it says two things of {key!r}: {found[key]!r:.60} and {value!r:.60}; remove one"
            )
    return found


def _parquet(path: Path) -> TableFile:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise PrerequisiteError(
            f"{path} needs the package pyarrow; pip install 'ovmer[datasets]'"
        ) from error
    try:
        file = parquet.ParquetFile(path)
    except ArrowException as error:
        raise PrerequisiteError(f"{path} is no parquet file ({first_line(error)})") from error
    rows = (row for batch in file.iter_batches(_PARQUET_ROWS) for row in batch.to_pylist())
    return TableFile({name: name for name in file.schema_arrow.names}, rows)


READERS: dict[str, Callable[[Path], TableFile]] = {
    ".csv": _separated,
    ".tsv": _separated,
    ".txt": _separated,
    ".jsonl": _json_lines,
    ".json": _json_file,
    ".parquet": _parquet,
}
