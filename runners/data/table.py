"""Columns of a data set's tables as the authors' loaders see them: pandas' missing values.

Subtitles and truth are read alike, from whatever `table_files` reads and from MERBench's .npz.
130,000 rows of csv take about a fifth of a second, and nothing heavy is imported, since a sweep
starts by reading these.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.data.corpus import read_corpus
from ovmer.runners.scoring.parsing import MISSING
from ovmer.runners.table_files import TableFile, read_table


def read_columns(
    path: Path, key: str, column: str | None, split: str | None = None
) -> Iterator[tuple[str, Any]]:
    """Yield (key cell, cell of `column`) for each row; None for a missing cell or no column.

    `split` is that of an .npz file, which needs no key. Raises PrerequisiteError where the file, a
    column or a row is not as it should be.
    """
    if not path.is_file():
        raise PrerequisiteError(f"there is no file {path}")
    if path.suffix == ".npz":
        yield from read_corpus(path, split, column)
        return
    table = read_table(path, fill=True)
    first = _key_of(table, key, path)
    second = None if column is None else _key_of(table, column, path)
    missing = MISSING if table.is_text else frozenset[str]()
    for row in table.rows:
        try:
            name, cell = row[first], None if second is None else row[second]
        except KeyError as error:
            raise PrerequisiteError(f"{path} has a row without {error}: {row!r:.80}") from error
        yield str(name), None if isinstance(cell, str) and cell in missing else cell


def _key_of(table: TableFile, column: str, path: Path) -> Any:
    for key, name in table.header.items():
        if name == column:
            return key
    found = ", ".join(table.header.values()) or "nothing"
    raise PrerequisiteError(f"{path} has no column {column!r}; its header holds {found}")
