"""The grouping-based metric: labels count as equal where a language model put them in one group.

MER2024's MER-OV track and the "GPT" column of OV-MER (MERTools, MER2024/main-ov.py). For every
clip the model was asked to group the union of predicted and true labels; each label is renamed to
the first member of its group (of the last group, if it is in several), and sets are
compared: accuracy = |G and P| / |P|, recall = |G and P| / |G|, both 0 where P is empty. Only
clips with a reply count, and there is no vocabulary, so nothing is dropped.

MER2024 ranks by `avg`, the mean of the two; OV-MER prints `F`, their harmonic mean.
"""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ovmer.baselines.errors import PrerequisiteError, one_of
from ovmer.runners.scoring.base import Metric
from ovmer.runners.scoring.label_files import Columns, collect
from ovmer.runners.scoring.labels import FlatLabels, parse_all, parser_notes
from ovmer.runners.scoring.parsing import PARSERS, friendly_list, listlist_to_list
from ovmer.runners.scoring.result import Contributions, FloatArray, Scores, ratio
from ovmer.runners.table_files import read_table

UNKNOWN = "an unknown model"
_GROUPED_BY = "grouped_by"


@dataclass
class GroupingMetric(Metric):
    """Set-level accuracy and recall under the groups of a language model."""

    name: str = "grouping"
    primary: str = "avg"
    replies: Any = None
    """Name -> reply text: a mapping, or a file or folder that holds them (`read_replies`)."""
    grouped_by: str | None = None
    """The language model that replied; None: as the replies' file says."""
    parser: str = "strict"
    _replies: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        one_of("metric.parser", self.parser, PARSERS)
        self._replies, models = read_replies(self.replies)
        self.grouped_by = self.grouped_by or models

    @property
    def columns(self) -> tuple[str, ...]:
        return ("accuracy", "recall", "counted")

    def _score(
        self, clips: tuple[str, ...], predictions: Sequence[Any], truth: Sequence[Any]
    ) -> Scores:
        parser = PARSERS[self.parser]
        predicted = parse_all(clips, predictions, parser, "prediction")
        true = parse_all(clips, truth, parser, "truth")
        values = np.zeros((len(clips), 3))
        for i, clip in enumerate(clips):
            if clip in self._replies:
                first = _first_members(self._replies[clip])
                values[i] = (*_compare(first, predicted.of(i), true.of(i)), 1)
        counted = values[:, 2] > 0
        return Scores(
            metric=self.name,
            primary=self.primary,
            conditions=self.conditions,
            comparable=True,
            contributions=Contributions(clips, self.columns, values),
            aggregate=self.aggregate,
            counted=counted,
            notes=self._notes(predicted, true, counted),
        )

    @property
    def conditions(self) -> dict[str, Any]:
        return {_GROUPED_BY: self.grouped_by or UNKNOWN, "parser": self.parser}

    def _notes(
        self, predicted: FlatLabels, true: FlatLabels, counted: npt.NDArray[np.bool_]
    ) -> list[str]:
        by = self.conditions[_GROUPED_BY]
        notes = [f"groups by {by}: another model, or another call, gives other figures"]
        unanswered = int((~counted).sum())
        if unanswered:
            notes.append(f"{unanswered} of {len(counted)} clips have no reply and do not count")
        empty = counted & (true.sizes == 0) & (predicted.sizes > 0)
        if empty.any():
            notes.append(
                f"{int(empty.sum())} clips have predicted but no true labels, where the authors' "
                "code divides by zero; they count as 0"
            )
        for whose, side in (("predictions", predicted), ("truth", true)):
            notes += parser_notes(side, whose)
            odd = {label for label in set(side.labels) if friendly_list(label) != [label.strip()]}
            if self.parser == "strict" and odd:
                lost = sum(label in odd for label in side.labels)
                notes.append(
                    f"{lost} labels in the {whose} read otherwise with metric.parser=friendly"
                )
        return notes

    def aggregate(self, sums: FloatArray) -> dict[str, FloatArray]:
        """Sums (... x 3) -> accuracy, recall, their mean and their harmonic mean."""
        accuracy, recall = (ratio(sums[..., i], sums[..., 2], 0.0) for i in (0, 1))
        return {
            "avg": (accuracy + recall) / 2,
            "F": ratio(2 * (accuracy * recall), accuracy + recall, 0.0),
            "accuracy": accuracy,
            "recall": recall,
        }


def _first_members(reply: str) -> dict[str, str]:
    return {label: group[0] for group in listlist_to_list(reply) for label in group}


def _compare(
    first: Mapping[str, str], predicted: list[str], true: list[str]
) -> tuple[float, float]:
    """(accuracy, recall) of one clip; labels are lower-cased but, unlike elsewhere, not stripped.

    Without true labels both are 0: the authors' code divides by zero there unless there are no
    predicted ones either.
    """
    ours = {first.get(label, label) for label in map(str.lower, predicted)}
    theirs = {first.get(label, label) for label in map(str.lower, true)}
    both = len(ours & theirs)
    return both / max(len(ours), 1), both / max(len(theirs), 1)


def read_replies(source: Any) -> tuple[dict[str, str], str | None]:
    """Name -> reply text, and the models that replied, where the source says it.

    From a mapping, a folder or .zip of NAME.npy (MER2024's), or a table (`read_table`) with a
    column or key `reply` and, where it is known, `grouped_by`.

    Raises PrerequisiteError for no source, and for one that cannot be read.
    """
    if isinstance(source, Mapping):
        return {str(name): str(reply) for name, reply in source.items()}, None
    if not source:
        raise PrerequisiteError(
            "metric.replies is missing; give the recorded groups: a folder or .zip of NAME.npy, "
            "or a .json, .jsonl or .csv of name and reply"
        )
    path, models = Path(source).expanduser(), set[str]()
    if path.is_dir() or path.suffix == ".zip":
        replies = _npy_texts(path)
    else:
        table = read_table(path)
        table = replace(table, rows=list(table.rows))
        found = collect(path, table, Columns(("reply",))).values
        replies = {name: reply for name, reply in found.items() if isinstance(reply, str)}
        if _GROUPED_BY in table.header.values():
            named = collect(path, table, Columns((), value=_GROUPED_BY)).values
            models = {str(each) for each in named.values() if each is not None}
    if not replies:
        raise PrerequisiteError(f"metric.replies: {path} holds no replies")
    return replies, ", ".join(sorted(models)) or None


def _npy_texts(path: Path) -> dict[str, str]:
    """The texts of the NAME.npy in a folder or .zip."""
    try:
        if path.is_dir():
            return {each.stem: _npy_text(each.read_bytes()) for each in sorted(path.glob("*.npy"))}
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            return {Path(name).stem: _npy_text(archive.read(name)) for name in names}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise PrerequisiteError(f"metric.replies: {path} cannot be read ({error})") from error


def _npy_text(content: bytes) -> str:
    """The text in a numpy file that holds one unicode scalar; never unpickles."""
    return str(np.load(BytesIO(content), allow_pickle=False))
