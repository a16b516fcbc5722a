"""A table that names clips -> clips: which column is what, and what rows lack."""

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ovmer.baselines.cache import MEDIA_FILES, cache_folder
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.data.finder import ENDINGS
from ovmer.runners.data.folder_clips import names_after
from ovmer.runners.data.settings import Clip, DatasetSettings, select
from ovmer.runners.disk import replacing
from ovmer.runners.scoring.parsing import MISSING, friendly_list
from ovmer.runners.table_files import TableFile, read_table

COLUMNS: Mapping[str, Sequence[str]] = {
    "name": ("name",),
    "video": ("video",),
    "audio": ("audio",),
    "face": ("face",),
    "subtitle": ("subtitle",),
    "labels": ("labels", "openset"),
    "question": ("question",),
    "choices": ("choices",),
    "reason": ("reason",),
}
"""The usual names of each kind of column; a subtitle's may end in its language."""
_FILES = ("video", "audio", "face")
_LANGUAGES = {"english": "_en", "chinese": "_zh"}
_SHOWN = 5


def columns_of(
    path: Path, table: TableFile, named: Mapping[str, str], language: str
) -> dict[str, str]:
    """Kind -> column, as the user named it or by its usual name.

    Raises PrerequisiteError for a column that is not there, or is taken twice.
    """
    header = list(table.header.values())
    plain = {column.strip().lower(): column for column in reversed(header)}
    found: dict[str, str] = {}
    for kind, usual in COLUMNS.items():
        if kind in named:
            if named[kind] not in header:
                have = ", ".join(header) or "none"
                raise PrerequisiteError(
                    f"columns.{kind}={named[kind]}: {path} has no such column; it has {have:.200}"
                )
            found[kind] = named[kind]
            continue
        names = [*usual, *(f"{each}{_LANGUAGES.get(language, '')}" for each in usual)]
        column = next((plain[name] for name in names if name in plain), None)
        if column is not None and column not in named.values():
            found[kind] = column
    for column, times in Counter(found.values()).items():
        if times > 1:
            kinds = [kind for kind in found if found[kind] == column]
            raise PrerequisiteError(
                f"the column {column!r} of {path} is taken for {' and '.join(kinds)}; name "
                f"another one by columns.{kinds[-1]}="
            )
    if not found.keys() & {*_FILES, "subtitle"}:
        example = shlex.quote(f"columns.video={next(iter(header), 'NAME')}")
        raise PrerequisiteError(
            f"{path} has the columns {', '.join(header) or 'none':.200}, and none is called "
            "video, audio or subtitle; say which ones are by columns.video=, columns.subtitle= and "
            f"columns.labels=, e.g. {example}"
        )
    return found


@dataclass
class _Rows:
    """The rows of a table on their way to clips."""

    path: Path
    columns: Mapping[str, str]
    check: bool
    is_text: bool
    absent: dict[str, list[Path]] = field(default_factory=dict)
    """By kind: files that are named and not there."""
    written: int = 0
    """Files whose bytes were in the table."""

    def cell(self, row: Mapping[str, Any], kind: str) -> Any:
        """The value of a kind of column; None where there is none."""
        column = self.columns.get(kind)
        value = None if column is None else row.get(column)
        empty = MISSING if self.is_text and kind in (*_FILES, "labels") else ("",)
        if (isinstance(value, str) and value in empty) or value != value:
            return None
        return value

    def text(self, row: Mapping[str, Any], kind: str) -> str | None:
        value = self.cell(row, kind)
        if isinstance(value, list | dict | bytes):
            raise PrerequisiteError(
                f"{self.path}: the column {self.columns[kind]!r} is taken for the {kind}, but it "
                f"holds {value!r:.60}; name another one by columns.{kind}="
            )
        return None if value is None else str(value)

    def file(self, row: Mapping[str, Any], kind: str) -> Path | None:
        value = self.cell(row, kind)
        if isinstance(value, dict):  # how Hugging Face's data sets hold media
            value = (value.get("bytes") and value) or value.get("path")
        if isinstance(value, bytes | dict):
            self.written += 1
            return media_file(value, ".npy" if kind == "face" else ".mp4")
        text = self.text({**row, self.columns.get(kind, ""): value}, kind)
        if text is None:
            return None
        file = self.path.parent / Path(text).expanduser()
        self.absent.setdefault(kind, [])
        if self.check and not file.is_file():
            self.absent[kind].append(file)
            return None
        return file


def media_file(value: bytes | Mapping[str, Any], ending: str = ".mp4") -> Path:
    """A file in the cache that holds a cell's bytes, in a folder called by their hash.

    A mapping holds `bytes` and may hold a `path`, after which the file, and so the clip, is called.
    """
    content: bytes = value if isinstance(value, bytes) else value["bytes"]
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    named = "" if isinstance(value, bytes) else Path(str(value.get("path") or "")).name
    file = cache_folder(MEDIA_FILES) / digest / (named.lstrip(".") or digest + ending)
    if not file.exists():
        with replacing(file, is_shared=True) as stream:
            stream.write(content)
    return file


def read_table_clips(path: Path, wanted: DatasetSettings) -> tuple[list[Clip], list[str]]:
    """The clips of a table, and what was understood, as parts of one sentence.

    Raises PrerequisiteError for a table without rows, files that are all elsewhere, and names that
    are double.
    """
    table = read_table(path, fill=True)
    rows = [_as_dict(table, row) for row in table.rows]
    if not rows:
        raise PrerequisiteError(f"{path} holds no rows, so no clips")
    reading = _Rows(path, wanted.columns, wanted.check_files, table.is_text)
    clips = [_clip(reading, row) for row in rows]
    _require_some(reading, clips)
    clips = _with_names(reading, rows, clips)
    kept = set(select([clip.name for clip in clips], wanted))
    clips = [clip for clip in clips if clip.name in kept]
    return clips, _understood(reading, list(table.header.values()), clips)


def _as_dict(table: TableFile, row: Any) -> dict[str, Any]:
    if isinstance(row, dict):
        return row
    return {column: row[key] for key, column in table.header.items()}


def _clip(reading: _Rows, row: Mapping[str, Any]) -> Clip:
    video, sound = reading.file(row, "video"), reading.file(row, "audio")
    if video is not None and video.suffix.lower() in ENDINGS["audio"]:
        video, sound = None, sound or video
    labels, question = reading.cell(row, "labels"), reading.text(row, "question")
    words = friendly_list(labels if isinstance(labels, str | list | None) else str(labels))
    return Clip(
        "",
        video,
        sound or video,
        reading.file(row, "face"),
        reading.text(row, "subtitle"),
        tuple(words),
        question=question,
        choices=_items(reading.cell(row, "choices")),
        reason=reading.text(row, "reason"),
    )


def _items(value: Any) -> tuple[str, ...]:
    """A list, a JSON list, or words between bars, semicolons or else commas."""
    if value is None:
        return ()
    if isinstance(value, str):
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = None
        if isinstance(parsed, list):
            value = parsed
        else:
            mark = next((mark for mark in "|;" if mark in value), ",")
            value = value.split(mark)
    elif not isinstance(value, list):
        value = [value]
    return tuple(text for each in value if (text := str(each).strip()))


def _require_some(reading: _Rows, clips: Sequence[Clip]) -> None:
    """Raise PrerequisiteError where all files that the table names are elsewhere."""
    has_any = any(clip.video or clip.audio or clip.face for clip in clips)
    if has_any or not any(reading.absent.values()):
        return
    kind, absent = next((kind, each) for kind, each in reading.absent.items() if each)
    raise PrerequisiteError(
        f"none of the {len(absent)} files in the column {reading.columns[kind]!r} of "
        f"{reading.path} is there, the first being {absent[0]}; paths are relative to the table's "
        "folder"
    )


def _with_names(
    reading: _Rows, rows: Sequence[Mapping[str, Any]], clips: Sequence[Clip]
) -> list[Clip]:
    """The clips with their names: the table's, else after their files, else the row's number."""
    if "name" in reading.columns:
        names = [reading.text(row, "name") or "" for row in rows]
        if double := [name for name, times in Counter(names).items() if times > 1]:
            numbers = [number for number, name in enumerate(names, 1) if name == double[0]]
            what = f"the name {double[0]!r}" if double[0] else "no name"
            raise PrerequisiteError(
                f"{reading.path}: rows {numbers[0]} and {numbers[1]} have {what}; "
                "each clip needs a name of its own"
            )
        if "" in names:
            raise PrerequisiteError(f"{reading.path}: row {names.index('') + 1} has no name")
    else:
        files = [clip.video or clip.audio or clip.face for clip in clips]
        paths = [
            Path(str(number)) if file is None else _relative(file, reading.path.parent)
            for number, file in enumerate(files, start=1)
        ]
        names = names_after(paths)
    return [replace(clip, name=name) for name, clip in zip(names, clips, strict=True)]


def _relative(file: Path, root: Path) -> Path:
    return file.relative_to(root) if file.is_relative_to(root) else Path(file.name)


def _understood(reading: _Rows, header: Iterable[str], clips: Sequence[Clip]) -> list[str]:
    """Summary of a table: the columns used, and the number of clips without each kind."""
    found = [f"{kind} from {column!r}" for kind, column in reading.columns.items()]
    sentences = [f"{len(clips)} rows", *found]
    lacking = {
        "subtitle": sum(clip.subtitle is None for clip in clips),
        "labels": sum(not clip.labels for clip in clips),
        "question": sum(clip.question is None for clip in clips),
        "choices": sum(not clip.choices for clip in clips),
    }
    sentences += [
        f"{number} without {kind}"
        for kind, number in lacking.items()
        if number and kind in reading.columns
    ]
    for kind, absent in reading.absent.items():
        if absent:
            sentences.append(f"{len(absent)} {kind} files are not there, e.g. {absent[0]}")
    if "labels" not in reading.columns:
        sentences.append("no truth, so labels are counted and not scored")
    if reading.written:
        sentences.append(f"{reading.written} files written to {cache_folder(MEDIA_FILES)}")
    if rest := [each for each in header if each not in reading.columns.values()]:
        more = ", ..." if len(rest) > _SHOWN else ""
        sentences.append(f"unused: {', '.join(rest[:_SHOWN])}{more}")
    return sentences
