"""The keys of a data set, and which of its clips they select."""

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

from ovmer.baselines.errors import PrerequisiteError, near
from ovmer.runners.data.clusters import Cluster
from ovmer.runners.data.rows import Rows
from ovmer.runners.data.truth import Labels


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip of a data set: its media, subtitle, question and truth."""

    name: str
    video: Path | None
    audio: Path | None
    """A sound file; if there is none, the video, for its sound track."""
    face: Path | None
    """Face crops, uint8 frames x height x width x 3 (.npy); looked for if `visual` is face."""
    subtitle: str | None
    """The words spoken; None if unknown, empty if nothing is said."""
    labels: tuple[str, ...]
    """A number, as text, where the truth is a sentiment."""
    question: str | None = None
    """The clip's own question, where the data set holds one; the task decides whether it is put."""
    choices: tuple[str, ...] = ()
    """The answers that may be given to this clip's question, in the order of the data set."""
    cluster: str = ""
    """Which video, dialogue or speaker it is of; empty where that is not known."""
    group: str = ""
    """The part of the data set that the clip belongs to, such as a type of question."""
    reason: str | None = None
    """Why the labels are true, as a model may be trained to say; own tables alone hold it."""
    blank: frozenset[str] = frozenset()
    """Media that are read as blank (adapters/media/blank.py), see `inputs=`."""
    notes: tuple[str, ...] = ()
    """For the clip's record."""


class Language(StrEnum):
    english = "english"
    chinese = "chinese"


class Visual(StrEnum):
    """The video passed to adapters: whole frames or face crops."""

    frame = "frame"
    face = "face"


@dataclass
class Subtitle:
    """Location of the subtitles: one column for each language."""

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
    cluster: Cluster = field(default_factory=Cluster)
    """Which clips are not independent."""
    rows: Rows = field(default_factory=Rows)
    """For data sets with questions or folds; then `labels` lists the words alone."""
    target: str = "labels"
    """The extractor's target: labels, basic_emotion or sentiment."""
    submission: str | None = None
    """Without truth: the column of the labels in the file for the organisers."""


def checked_settings(settings: Mapping[str, Any]) -> DatasetSettings:
    """The settings of a data set; PrerequisiteError for a mistyped key or value."""
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
