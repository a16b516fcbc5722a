"""The one reader: a folder with media, a table of labels, a table of subtitles -> `Clip`s.

The clips of a data set, and their order, are the rows of its label table. Media are located by
patterns relative to the root; a pattern may describe a flat folder (`video/{name}.mp4`) or
one folder a clip (`openface_face/{name}/{name}.npy`). Folders are listed once, so that neither
20,000 clips nor a slow network file system delay the start; `check_files=false` does not look.

What the authors' loaders do is kept: a missing subtitle is the empty string, and a clip that is
absent from the subtitle table is an error. The labels are truth.py's.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.data.clusters import name_rule
from ovmer.runners.data.finder import Finder
from ovmer.runners.data.own import read_own
from ovmer.runners.data.rows import Files, read_rows
from ovmer.runners.data.settings import Clip, DatasetSettings, Visual, checked_settings, select
from ovmer.runners.data.table import read_columns
from ovmer.runners.data.truth import read_clusters, read_truth
from ovmer.runners.lazy import LazySequence

_PACKAGE = "{package}"  # in `root`: the folder of this module, with the sample data set


def read_dataset(settings: Mapping[str, Any]) -> Sequence[Clip]:
    """Every clip that the settings (keys of `DatasetSettings`) select, in the table's order.

    Raises PrerequisiteError with one sentence for a mistyped key or value, a missing folder, file
    or column, a name that is double or no file name, and a filter that nothing answers to.
    """
    wanted = checked_settings(settings)
    if wanted.source is not None:
        return read_own(wanted)[0]
    root = dataset_root({"root": wanted.root})
    if not root.is_dir():
        raise PrerequisiteError(
            f"dataset.root: there is no folder {root}; give dataset.root, or data_root, the folder "
            "that holds the data sets by their authors' names"
        )
    if wanted.rows.file:
        return _from_rows(root, wanted)
    truth = read_truth(root, wanted.labels)
    names = select(list(truth), wanted)
    labels = [truth[name] for name in names]
    subtitles = _read_subtitles(root, wanted, names)
    video = _files(root, "video", wanted.video, wanted.check_files, names)
    audio = _files(root, "audio", wanted.audio, wanted.check_files, names)
    faces = wanted.face if wanted.visual is Visual.face else []
    face = _files(root, "face", faces, wanted.check_files, names)
    cluster = _cluster_of(root, wanted)

    def clip(number: int) -> Clip:
        name = names[number]
        picture = video(name)
        return Clip(
            name,
            picture,
            audio(name) or picture,
            face(name),
            subtitles[number],
            labels[number],
            cluster=cluster(name),
        )

    return LazySequence(range(len(names)), clip)


def _files(
    root: Path, kind: str, patterns: Sequence[str], check: bool, names: Iterable[str]
) -> Callable[[str], Path | None]:
    """Clip name -> its file of one kind."""
    find = Finder(root, kind, patterns, check).find
    if not check:
        return find
    found = {name: str(path) for name in names if (path := find(name)) is not None}
    return lambda name: Path(found[name]) if name in found else None


def _cluster_of(root: Path, wanted: DatasetSettings) -> Callable[[str], str]:
    """Clip name -> the name of its cluster, empty where that is not known."""
    cluster = wanted.cluster
    if cluster.column is not None:
        return read_clusters(root, wanted.labels, cluster.column).__getitem__
    return name_rule(cluster.pattern) if cluster.pattern is not None else lambda _: ""


def _from_rows(root: Path, wanted: DatasetSettings) -> list[Clip]:
    rows = {row.name: row for row in read_rows(root, wanted.rows, wanted.labels.space)}
    video = Files(root, wanted.video, wanted.check_files)
    audio = Files(root, wanted.audio, wanted.check_files)
    cluster = _cluster_of(root, wanted)
    clips = []
    for name in select(list(rows), wanted):
        row = rows[name]
        picture = video.find(row.file)
        clips.append(
            Clip(
                name=name,
                video=picture,
                audio=audio.find(row.file) or picture,
                face=None,
                subtitle=row.subtitle,
                labels=row.labels,
                question=row.question,
                choices=row.choices,
                group=row.group,
                cluster=cluster(name),
            )
        )
    return clips


def understood(settings: Mapping[str, Any]) -> str:
    """How the folder or table of own clips was read, in one sentence."""
    return "; ".join(read_own(checked_settings(settings))[1])


def dataset_root(settings: Mapping[str, Any]) -> Path:
    """The folder that `root` names."""
    return Path(str(settings["root"]).replace(_PACKAGE, str(Path(__file__).parent))).expanduser()


def _read_subtitles(root: Path, wanted: DatasetSettings, names: Sequence[str]) -> list[str | None]:
    table = wanted.subtitle
    path = root / table.file
    column = table.columns.get(wanted.language.value)
    if column is None:
        have = [language for language, name in table.columns.items() if name is not None]
        raise PrerequisiteError(
            f"dataset.language is {wanted.language}, but {wanted.name} has subtitles in "
            f"{', '.join(have)} only"
        )
    subtitles = dict[str, str | None].fromkeys(names)
    for name, cell in read_columns(path, table.key, column, table.split):
        if name in subtitles:
            text = "" if cell is None else str(cell)
            if subtitles[name] not in (None, text):
                raise PrerequisiteError(f"{path} holds two different subtitles for {name!r}")
            subtitles[name] = text
    absent = sorted(name for name, text in subtitles.items() if text is None)
    if absent:
        raise PrerequisiteError(
            f"{path} has no row for {len(absent)} of {len(subtitles)} clips, the first "
            f"{absent[0]!r}"
        )
    return list(subtitles.values())
