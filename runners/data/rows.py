"""Clips of benchmarks that bring a question or a fold file: rows of a table, a JSON list, or names.

    .csv .tsv    columns by the header          .txt   blank-separated columns 0, 1, ...
    .json .jsonl a list of objects; `conversations.0.value` is a path into one
    a glob       every file that it names; columns are the groups of `match`

Names of fields differ between releases of one benchmark, so each column may have several, the
first that a row has being taken. An error names those looked for and those that are there.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.table_files import explained, read_table

_LARGEST_CELL = 2**31 - 1
_FILE = re.compile(r"\{(file|stem)(?::0(\d+))?\}")
_ALL = "all"


@dataclass
class Rows:
    """The key `dataset.rows`; without `file` the data set is read by `labels` and `subtitle`."""

    file: list[str] = field(default_factory=list)
    """Paths below the root, the first that is there being read; `{fold}` is the fold. A path with
    `*` names the clips' files themselves."""
    match: str | None = None
    """A regular expression for the path of each file that the glob names."""
    where: dict[str, list[str]] = field(default_factory=dict)
    """Column -> the values that belong to the data set."""
    folds: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Fold -> column -> values of its test clips; where {fold} in `file` tells them, empty."""
    fold: str = _ALL
    """Whose test clips are taken: a key of `folds`, or all."""
    expected: dict[str, int] = field(default_factory=dict)
    """Fold -> how many clips the release holds."""
    name: list[str] = field(default_factory=list)
    """Columns for the clip's name; folders in it become underscores, its ending goes."""
    media: list[str] = field(default_factory=list)
    """Columns for `{file}` in the patterns of video and audio."""
    labels: list[str] = field(default_factory=list)
    """Columns of the true label, one of them, or with `parts` each a part of it."""
    parts: bool = False
    words: dict[str, str] = field(default_factory=dict)
    """Cell of the file -> label."""
    label_after: str = ""
    """Only what follows this mark, up to the next one, is the label."""
    question: list[str] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    """Marks that are taken out of the question."""
    choices: list[str] = field(default_factory=list)
    group: list[str] = field(default_factory=list)
    subtitle: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """One clip of such a table."""

    name: str
    file: str
    labels: tuple[str, ...]
    question: str | None
    choices: tuple[str, ...]
    group: str
    subtitle: str | None


def read_rows(root: Path, wanted: Rows, space: Sequence[str]) -> list[Row]:
    """Every clip of the chosen fold, in the order of the files; a label must be one of `space`.

    Raises PrerequisiteError where there is no such fold or file, where a row lacks a column, and
    for a name that is double or a label that this data set cannot have.
    """
    found: dict[str, Row] = {}
    for path, number, cells in _cells_of_fold(root, wanted):
        where = f"{path}, row {number}"
        if any(_text(cells, [key]) not in values for key, values in wanted.where.items()):
            continue
        row = _row(cells, wanted, space, where, number)
        if row.name in found:
            raise PrerequisiteError(f"{where}: the name {row.name!r} stands there twice")
        found[row.name] = row
    if not found:
        raise PrerequisiteError(
            f"{root}: no clip of dataset.rows.fold={wanted.fold} in {' or '.join(wanted.file)}"
        )
    return list(found.values())


def _cells_of_fold(root: Path, wanted: Rows) -> Iterator[tuple[Path, int, Mapping[str, Any]]]:
    folds = list(wanted.folds)
    if wanted.fold != _ALL and wanted.fold not in folds:
        raise PrerequisiteError(
            f"dataset.rows.fold is {wanted.fold!r}; it is {', '.join([*folds, _ALL])}"
        )
    chosen = folds if wanted.fold == _ALL else [wanted.fold]
    is_file_each = any("{fold}" in each for each in wanted.file)
    keep = {} if is_file_each else wanted.folds.get(wanted.fold, {})
    for fold in chosen if is_file_each else [wanted.fold]:
        path = _existing(root, [each.replace("{fold}", fold) for each in wanted.file])
        for number, cells in _cells(root, path, wanted):
            if all(_text(cells, [key]) in values for key, values in keep.items()):
                yield path, number, cells


def _existing(root: Path, candidates: Sequence[str]) -> Path:
    for each in candidates:
        if next(root.glob(each), None) if "*" in each else (root / each).is_file():
            return root / each
    raise PrerequisiteError(
        f"{root} holds no {' and no '.join(candidates)}; is dataset.root the folder of the release?"
    )


def _cells(root: Path, path: Path, wanted: Rows) -> Iterator[tuple[int, Mapping[str, Any]]]:
    rows: Iterable[Mapping[str, Any]]
    try:
        with explained(path):
            if "*" in path.name:
                rows = _listed(root, path, wanted.match)
            elif path.suffix == ".json":
                rows = _objects(path, json.loads(path.read_text(encoding="utf-8-sig")))
            elif path.suffix == ".jsonl":
                rows = read_table(path).rows
            elif path.suffix == ".txt":
                lines = path.read_text(encoding="utf-8-sig").splitlines()
                rows = ({str(i): cell for i, cell in enumerate(each.split())} for each in lines)
                rows = filter(None, rows)
            else:
                rows = _table(path)
            yield from enumerate(rows, start=1)
    except (json.JSONDecodeError, RecursionError, csv.Error) as error:
        raise PrerequisiteError(f"{path} cannot be read: {error}") from error


def _listed(root: Path, path: Path, match: str | None) -> Iterator[Mapping[str, Any]]:
    pattern = re.compile(match or ".*")
    for file in sorted(root.glob(path.relative_to(root).as_posix())):
        relative = file.relative_to(root).as_posix()
        if found := pattern.fullmatch(relative):
            yield {"path": relative, "stem": file.stem, **found.groupdict()}


def _objects(path: Path, content: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(content, Mapping):  # {"data": [...]}, or an object a clip
        lists = [value for value in content.values() if isinstance(value, list)]
        content = lists[0] if len(lists) == 1 else list(content.values())
    if not isinstance(content, list) or not all(isinstance(each, Mapping) for each in content):
        raise PrerequisiteError(f"{path} holds no list of JSON objects")
    yield from content


def _table(path: Path) -> Iterator[Mapping[str, Any]]:
    csv.field_size_limit(_LARGEST_CELL)
    with path.open(encoding="utf-8-sig", newline="") as file:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        yield from csv.DictReader(file, delimiter=delimiter)


def _row(
    cells: Mapping[str, Any], wanted: Rows, space: Sequence[str], where: str, number: int
) -> Row:
    def needed(what: str, columns: Sequence[str]) -> str:
        text = _text(cells, columns)
        if text is None:
            have = ", ".join(map(str, cells))
            raise PrerequisiteError(
                f"{where} has no {what}: none of {', '.join(columns)}; it has {have:.300}; name "
                f"the field by dataset.rows.{what}"
            )
        return text

    file = needed("media", wanted.media)
    name = _text(cells, wanted.name) if wanted.name else file
    question = needed("question", wanted.question) if wanted.question else None
    for mark in wanted.remove:
        question = question and question.replace(mark, "")
    labels = list[str]()
    for columns in [[each] for each in wanted.labels] if wanted.parts else [wanted.labels]:
        if columns:
            labels.append(_label(needed("labels", columns), wanted, space, where))
    return Row(
        _clip_name(str(number) if name is None else name),
        file,
        tuple(labels),
        question.strip() if question else None,
        _choices(_value(cells, wanted.choices)),
        _text(cells, wanted.group) or "",
        _text(cells, wanted.subtitle),
    )


def _label(text: str, wanted: Rows, space: Sequence[str], where: str) -> str:
    if wanted.label_after and wanted.label_after in text:
        text = text.split(wanted.label_after)[1]
    text = wanted.words.get(text.strip(), text.strip())
    known = {each.lower(): each for each in [*space, *wanted.words.values()]}
    if not known:
        return text
    if text.lower() not in known:
        raise PrerequisiteError(
            f"{where}: the label is {text!r:.60}, but in this data set it is one of "
            f"{', '.join(known.values())}; is the file another one's?"
        )
    return known[text.lower()]


def _clip_name(text: str) -> str:
    path = PurePosixPath(text)
    parts = [each for each in path.with_suffix("").parts if each not in ("/", "..", ".")]
    return "_".join(parts) or text


def _choices(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),)


def _text(cells: Mapping[str, Any], columns: Sequence[str]) -> str | None:
    """The first of the columns that the row has, as text; a list is joined by commas."""
    value = _value(cells, columns)
    if value is None or isinstance(value, str):
        return value
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _value(cells: Mapping[str, Any], columns: Sequence[str]) -> Any:
    for column in columns:
        value: Any = cells
        if column in cells:
            value = cells[column]
        else:
            for key in column.split("."):
                if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
                    value = value[int(key)]
                elif isinstance(value, Mapping) and key in value:
                    value = value[key]
                else:
                    value = None
                    break
        if value is not None:
            return value
    return None


class Files:
    """Finds a row's `{file}` by patterns below the root; the first match counts."""

    def __init__(self, root: Path, patterns: Sequence[str], check: bool) -> None:
        self._root, self._patterns, self._check = root, patterns, check

    def find(self, file: str) -> Path | None:
        """Unchecked: the first pattern's file, whether it is there or not."""
        paths = [self._root / _filled(pattern, file) for pattern in self._patterns]
        if not self._check:
            return paths[0] if paths else None
        return next((path for path in paths if path.is_file()), None)


def _filled(pattern: str, file: str) -> str:
    """`{file}` unchanged, `{stem}` without folders and ending, `{stem:05}` with zeros before."""

    def value(slot: re.Match[str]) -> str:
        text = file if slot[1] == "file" else PurePosixPath(file).stem
        return text.zfill(int(slot[2])) if slot[2] else text

    return _FILE.sub(value, pattern)
