"""Csv tables as the authors' loaders see them: pandas' missing values, without pandas.

Guaranteed: UTF-8 with or without a byte-order mark, quoted cells with commas, quotes and new
lines, and one sentence naming file and line for whatever cannot be read. 130,000 rows take about
a fifth of a second, and nothing heavy is imported, since a sweep starts by reading these.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.scoring.parsing import MISSING


def read_columns(path: Path, key: str, column: str | None) -> Iterator[tuple[str, str | None]]:
    """Yield (key cell, cell of `column`) for each row; None for a missing cell or no column.

    Raises PrerequisiteError where the file, a column or a row is not as it should be.
    """
    if not path.is_file():
        raise PrerequisiteError(f"there is no file {path}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _rows(file, path, key, column)
    except UnicodeDecodeError as error:
        raise PrerequisiteError(f"{path} is not UTF-8 text ({error.reason})") from error
    except OSError as error:
        raise PrerequisiteError(f"{path} cannot be read: {error.strerror}") from error


def _rows(
    file: TextIO, path: Path, key: str, column: str | None
) -> Iterator[tuple[str, str | None]]:
    reader = csv.reader(file, strict=True)
    try:
        header: list[str] = next(reader, [])
        first = _position(header, key, path)
        at = None if column is None else _position(header, column, path)
        width = len(header)
        for row in reader:
            if len(row) != width:
                if not row:  # a blank line, which pandas skips too
                    continue
                if len(row) > width:
                    raise PrerequisiteError(
                        f"{path}, line {reader.line_num}: {len(row)} cells where the header has "
                        f"{width}; is a comma not quoted?"
                    )
                row += [""] * (width - len(row))
            yield row[first], None if at is None or row[at] in MISSING else row[at]
    except csv.Error as error:
        raise PrerequisiteError(f"{path}, line {reader.line_num}: {error}") from error


def _position(header: Sequence[str], column: str, path: Path) -> int:
    if column not in header:
        found = ", ".join(header) or "nothing"
        raise PrerequisiteError(f"{path} has no column {column!r}; its header holds {found}")
    return header.index(column)
