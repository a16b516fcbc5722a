"""Clips of the user's own (`clips=`): a folder of media files, or a table that names them.

Folder: every file with the ending of a video or sound file, subfolders included; a sound file
beside a video of the same name is that video's sound. There are no subtitles and no truth.

Table: a row a clip, read by table_files.py. Columns are recognised by their usual names, or as
`columns.KIND=NAME` says; paths are relative to the table's folder. What was understood is said in
one sentence, so that a misread column does not pass unseen. A data set of the hub is a table, too.

A clip is called by its path relative to the folder, without the ending (`interviews/anna`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.data.finder import ENDINGS
from ovmer.runners.data.folder_clips import read_folder_clips
from ovmer.runners.data.hub import PREFIX, table_of
from ovmer.runners.data.settings import Clip, DatasetSettings, checked_settings
from ovmer.runners.data.table_clips import columns_of, read_table_clips
from ovmer.runners.table_files import READERS, read_table

_KEPT = ("language", "visual", "limit", "clips", "check_files", "target")
"""Keys of a data set that hold for own clips too."""


_DEFAULT_DATASET = "sample"
"""That of conf/config.yaml."""


def with_own_clips(
    dataset: dict[str, Any],
    clips: str | None,
    columns: Mapping[str, str | None],
    overrides: Sequence[str],
) -> dict[str, Any]:
    """The settings of the data set, or if `clips` is given those that it implies.

    `overrides` are those of the command line. Raises PrerequisiteError where they name a data set
    as well, and for columns without a table.
    """
    named = {kind: column for kind, column in columns.items() if column}
    if clips is None:
        if named:
            raise PrerequisiteError(
                f"columns.{next(iter(named))} is about a table of your own; add clips=TABLE"
            )
        return dataset
    if dataset.get("source") is not None:
        return dataset  # taken already
    name = dataset.get("name")
    if name != _DEFAULT_DATASET or f"dataset={name}" in overrides:
        raise PrerequisiteError(
            f"clips={clips} and dataset={name} both say which clips; leave one out"
        )
    return own_settings(clips, named, dataset)


def own_settings(
    clips: str, columns: Mapping[str, str | None], dataset: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings of the data set (keys of `DatasetSettings`) that `clips=` implies.

    `dataset` holds the keys that are taken over. Raises PrerequisiteError where there is no such
    folder or table, and for a column that is not there.
    """
    path = table_of(clips) if clips.startswith(PREFIX) else Path(clips).expanduser().absolute()
    named = {kind: column for kind, column in columns.items() if column is not None}
    kept = {key: dataset[key] for key in _KEPT if key in dataset}
    if path.is_dir():
        if named:
            kind, column = next(iter(named.items()))
            raise PrerequisiteError(
                f"columns.{kind}={column} is about a table, but clips={clips} is a folder"
            )
        found: dict[str, str] = {}
    elif path.is_file():
        found = columns_of(path, read_table(path), named, str(dataset.get("language", "english")))
    else:
        raise PrerequisiteError(
            f"clips={clips}: there is no such folder or file; give a folder of videos, a table "
            f"({', '.join(READERS)}), or {PREFIX}OWNER/NAME of a data set of the hub"
        )
    return {
        "name": path.stem if path.is_file() else path.name or "clips",
        "root": str(path if path.is_dir() else path.parent),
        "source": str(path),
        "columns": found,
        **kept,
        **{kind: [] for kind in ("video", "audio", "face")},
        "subtitle": {"file": path.name},
        "labels": {"file": path.name, "column": found.get("labels")},
    }


def read_own(wanted: DatasetSettings) -> tuple[list[Clip], list[str]]:
    """The clips of the folder or table that `wanted.source` names, and what was understood.

    Raises PrerequisiteError with one sentence for a folder without media, a table whose rows point
    nowhere, a name that is double, and a filter that nothing answers to.
    """
    path = Path(wanted.source or "")
    return (read_folder_clips if path.is_dir() else read_table_clips)(path, wanted)


def clips_at(paths: Sequence[str], columns: Mapping[str, str | None]) -> list[Clip]:
    """The clips of several media files, folders and tables, in the order given.

    Raises PrerequisiteError for a path that is none of these.
    """
    clips: list[Clip] = []
    for text in paths:
        path = Path(text).expanduser()
        if text.startswith(PREFIX) or path.is_dir() or path.suffix.lower() in READERS:
            clips += read_own(checked_settings(own_settings(text, columns, {})))[0]
        elif not path.is_file():
            raise PrerequisiteError(f"there is no file or folder {text}")
        elif path.suffix.lower() in ENDINGS["audio"]:
            clips.append(single_clip(audio=path))
        else:
            clips.append(single_clip(path))
    return clips


def single_clip(
    video: str | Path | None = None, audio: str | Path | None = None, subtitle: str | None = None
) -> Clip:
    """A clip that is called after its file; a video that is an .npy file holds crops of a face.

    Without `audio` the sound is the video's own. Raises PrerequisiteError where there is no such
    file.
    """
    given = (("video", video), ("audio", audio))
    files = {kind: Path(file) for kind, file in given if file is not None}
    for kind, file in files.items():
        if not file.is_file():
            raise PrerequisiteError(f"{kind}: there is no file {file}")
    picture = files.get("video")
    sound = files.get("audio", picture)
    named = picture or sound
    face = picture if picture is not None and picture.suffix == ".npy" else None
    return Clip(named.stem if named else "clip", picture, sound, face, subtitle, ())
