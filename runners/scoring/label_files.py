"""Files of labels -> name: labels. Whoever wrote them: we, the authors, or a spreadsheet.

    .csv .tsv   a header and one row a clip; pandas' missing values are no labels
    .jsonl      one object a line       .json   an object name -> labels, or a list of objects
    .npz        the authors': `filenames` and `fileitems` (labels), or `name2reason` (texts)

The header says which column holds the names and which the labels, or the user does. A file that
says two things of one clip is refused, whatever its kind.
"""

import pickle
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.object_arrays import read_member
from ovmer.runners.scoring.parsing import MISSING
from ovmer.runners.table_files import TableFile, explained, read_table

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
_BROKEN = (zipfile.BadZipFile, pickle.UnpicklingError)


@dataclass(frozen=True)
class Columns:
    """Columns to read in a table; None: inferred from the header."""

    wanted: Sequence[str]
    """Names that the labels' column may have, best first."""
    name: str | None = None
    value: str | None = None


@dataclass
class LabelFile:
    """Contents of a label file."""

    values: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_label_file(path: Path, columns: Columns) -> LabelFile:
    """Read a file of labels.

    Raises PrerequisiteError with one sentence for a file that is missing, empty, not of its kind,
    without the column, or that says two things of one clip.
    """
    if path.suffix == ".npz":
        with explained(path):
            return _read_npz(path)
    return collect(path, read_table(path), columns)


def _read_npz(path: Path) -> LabelFile:
    if not path.exists():
        raise PrerequisiteError(f"there is no file or folder {path}")
    if path.stat().st_size == 0:
        raise PrerequisiteError(f"{path} is empty")
    if not zipfile.is_zipfile(path):  # numpy would take it for a pickle
        raise PrerequisiteError(f"{path} is no npz file; was it cut while it was copied?")
    notes = []
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            if "name2reason" in names:
                pairs = _member(archive, "name2reason").items()
                notes = [f"{path} holds name2reason: texts, read as if they were labels"]
            elif {"filenames", "fileitems"} <= names:
                both = (_member(archive, key) for key in ("filenames", "fileitems"))
                pairs = zip(*both, strict=True)
            else:
                raise PrerequisiteError(
                    f"{path} holds {', '.join(sorted(names)) or 'nothing'}, but neither "
                    "name2reason nor filenames and fileitems"
                )
        table = TableFile({0: "name", 1: "labels"}, pairs)
        found = collect(path, table, Columns(("labels",)))
    except (ValueError, AttributeError, TypeError, *_BROKEN) as error:
        raise PrerequisiteError(f"{path} is no npz file of labels ({error})") from error
    found.notes += notes
    return found


def _member(archive: zipfile.ZipFile, key: str) -> Any:
    return read_member(archive.read(f"{key}.npy"))


def collect(path: Path, table: TableFile, columns: Columns) -> LabelFile:
    """Rows -> name: labels. A name is taken literally: a clip may be called NA."""
    read = LabelFile()
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
        if isinstance(value, str) and table.is_text and value in MISSING:
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


def _pick(path: Path, header: dict[Any, str], wanted: str | None, usual: Sequence[str]) -> Any:
    """The key of the column that the user named or, else, that has a usual name; None if none."""
    if wanted is not None:
        for key, column in header.items():
            if column == wanted:
                return key
        have = ", ".join(header.values())
        raise PrerequisiteError(f"{path} has no column {wanted!r}; it has {have:.200}")
    plain = {column.strip().lower(): key for key, column in header.items()}
    return next((plain[name] for name in usual if name in plain), None)
