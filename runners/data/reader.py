"""The one reader: a folder with media, a table of labels, a table of subtitles -> `Clip`s.

The clips of a data set, and their order, are the rows of its label table. Media are found by
patterns relative to the root; a pattern may stand for a flat folder (`video/{name}.mp4`) or for
one folder a clip (`openface_face/{name}/{name}.npy`). Folders are listed once, so that neither
20,000 clips nor a slow network file system delay the start; `check_files=false` does not look.

What the authors' loaders do is kept: a missing subtitle is the empty string, and a clip that is
absent from the subtitle table is an error. The labels are truth.py's.
"""

import difflib
import fnmatch
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, ValidationError

from ovmer.adapters.registry import near
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.data.finder import Finder
from ovmer.runners.data.table import read_columns
from ovmer.runners.data.truth import Labels, read_truth

_PACKAGE = "{package}"  # in `root`: the folder of this module, where the sample data set lies


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip of a data set: what may be asked about, and the truth."""

    name: str
    video: Path | None
    audio: Path | None
    """A sound file; where there is none, the video, whose sound track is meant."""
    face: Path | None
    """Face crops, uint8 frames x height x width x 3 (.npy); looked for if `visual` is face."""
    subtitle: str | None
    """What is said; None where nobody knows, an empty text where nothing is said."""
    labels: tuple[str, ...]
    """A number, as text, where the truth is a sentiment."""
    question: str | None = None
    """The clip's own question, where the data set holds one; the task decides whether it is put."""
    choices: tuple[str, ...] = ()
    """The answers that may be given to this clip's question, in the order of the data set."""
    group: str = ""
    """The part of the data set that the clip belongs to, such as a type of question."""
    reason: str | None = None
    """Why the labels are true, as a model may be trained to say; own tables alone hold it."""


class Language(StrEnum):
    english = "english"
    chinese = "chinese"


class Visual(StrEnum):
    """What an adapter gets as the video: whole frames or face crops."""

    frame = "frame"
    face = "face"


@dataclass
class Subtitle:
    """Where the subtitles stand: one column for each language."""

    file: str = "???"
    split: str | None = None
    """Of an .npz file."""
    key: str = "name"
    columns: dict[str, str | None] = field(default_factory=dict)
    """Language -> column; null where the file has none in it."""


@dataclass
class DatasetSettings:
    """The keys of `conf/dataset/NAME.yaml`."""

    name: str = "???"
    root: str = "???"
    source: str | None = None
    """The folder or table of clips of the user's own; what follows of files is then unused."""
    columns: dict[str, str] = field(default_factory=dict)
    """Of that table: kind -> column (table_clips.COLUMNS)."""
    language: Language = Language.english
    visual: Visual = Visual.frame
    limit: int | None = None
    """The first n clips only, counted after the name filter."""
    clips: list[str] = field(default_factory=list)
    """Names or glob patterns; none means all."""
    check_files: bool = True
    video: list[str] = field(default_factory=list)
    """Patterns in order of preference, e.g. `video/{name}.mp4`; the same for the next two."""
    audio: list[str] = field(default_factory=list)
    face: list[str] = field(default_factory=list)
    subtitle: Subtitle = field(default_factory=Subtitle)
    labels: Labels = field(default_factory=Labels)
    target: str = "labels"
    """What the extractor is asked for: labels, basic_emotion or sentiment."""
    submission: str | None = None
    """Without truth: the column of the labels in the file for the organisers."""


def read_dataset(settings: Mapping[str, Any]) -> list[Clip]:
    """Every clip that the settings (keys of `DatasetSettings`) select, in the table's order.

    Raises PrerequisiteError with one sentence for a mistyped key or value, a missing folder, file
    or column, a name that is double or no file name, and a filter that nothing answers to.
    """
    wanted = _checked(settings)
    if wanted.source is not None:
        from ovmer.runners.data.own import read_own  # which needs what stands here

        return read_own(wanted)[0]
    root = dataset_root({"root": wanted.root})
    if not root.is_dir():
        raise PrerequisiteError(
            f"dataset.root: there is no folder {root}; give dataset.root, or data_root, the folder "
            "that holds the data sets by their authors' names"
        )
    truth = read_truth(root, wanted.labels)
    labels = {name: truth[name] for name in select(list(truth), wanted)}
    subtitles = _read_subtitles(root, wanted, labels)
    video = Finder(root, "video", wanted.video, wanted.check_files)
    audio = Finder(root, "audio", wanted.audio, wanted.check_files)
    faces = wanted.face if wanted.visual is Visual.face else []
    face = Finder(root, "face", faces, wanted.check_files)
    clips = []
    for name, words in labels.items():
        picture = video.find(name)
        sound = audio.find(name) or picture
        clips.append(Clip(name, picture, sound, face.find(name), subtitles[name], words))
    return clips


def understood(settings: Mapping[str, Any]) -> str:
    """How the folder or table of own clips was read, in one sentence."""
    from ovmer.runners.data.own import read_own

    return "; ".join(read_own(_checked(settings))[1])


def dataset_root(settings: Mapping[str, Any]) -> Path:
    """The folder that `root` names."""
    return Path(str(settings["root"]).replace(_PACKAGE, str(Path(__file__).parent))).expanduser()


def _checked(settings: Mapping[str, Any]) -> DatasetSettings:
    try:
        merged = OmegaConf.merge(OmegaConf.structured(DatasetSettings), dict(settings))
        wanted = OmegaConf.to_object(merged)
    except ConfigKeyError as error:
        known = [each.name for each in fields(error.object_type or DatasetSettings)]
        raise PrerequisiteError(
            f"dataset.{error.full_key} is no key of a data set; {near(str(error.key), known)}"
        ) from error
    except MissingMandatoryValue as error:
        what = "; it is the folder of the tables and media" if error.full_key == "root" else ""
        raise PrerequisiteError(f"dataset.{error.full_key} is not set{what}") from error
    except ValidationError as error:
        reason = str(error.msg).splitlines()[0]
        if "ListConfig" in reason:
            reason = "give a list, in brackets"
        where = f"dataset.{error.full_key}" if error.full_key else "dataset"
        raise PrerequisiteError(f"{where}: {reason}") from error
    assert isinstance(wanted, DatasetSettings)
    if wanted.limit is not None and wanted.limit < 1:
        raise PrerequisiteError(f"dataset.limit is {wanted.limit}; give at least 1, or null")
    return wanted


def select(names: Sequence[str], wanted: DatasetSettings) -> Sequence[str]:
    """The names that the settings `clips` and `limit` select, in their order.

    Raises PrerequisiteError for a pattern that nothing answers to.
    """
    known = names
    if wanted.clips:
        hits = Counter[str]()
        names = [name for name in names if _matches(name, wanted.clips, hits)]
        for pattern in wanted.clips:
            if not hits[pattern]:
                close = difflib.get_close_matches(pattern, known, n=3) or known[:3]
                raise PrerequisiteError(
                    f"dataset.clips: no clip is called {pattern!r}; there are, for instance, "
                    f"{', '.join(close)}"
                )
    return names[: wanted.limit]


def _matches(name: str, patterns: Iterable[str], hits: Counter[str]) -> bool:
    # A name may hold brackets itself, so the plain comparison comes first.
    found = [each for each in patterns if name == each or fnmatch.fnmatchcase(name, each)]
    hits.update(found)
    return bool(found)


def _read_subtitles(root: Path, wanted: DatasetSettings, names: Iterable[str]) -> dict[str, str]:
    table = wanted.subtitle
    path = root / table.file
    column = table.columns.get(wanted.language.value)
    if column is None:
        have = [language for language, name in table.columns.items() if name is not None]
        raise PrerequisiteError(
            f"dataset.language is {wanted.language}, but {wanted.name} has subtitles in "
            f"{', '.join(have)} only"
        )
    needed = set(names)
    subtitles: dict[str, str] = {}
    for name, cell in read_columns(path, table.key, column, table.split):
        if name in needed:
            text = "" if cell is None else str(cell)
            if subtitles.setdefault(name, text) != text:
                raise PrerequisiteError(f"{path} holds two different subtitles for {name!r}")
    absent = sorted(needed - subtitles.keys())
    if absent:
        raise PrerequisiteError(
            f"{path} has no row for {len(absent)} of {len(needed)} clips, the first {absent[0]!r}"
        )
    return subtitles
