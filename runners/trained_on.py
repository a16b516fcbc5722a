"""Training data: which models have seen which data sets, as far as their authors say.

`published/trained_on.csv` holds what the models' authors say, each line with its source. `train`:
clips of the data set were trained on; `test`: they were not, by a training list or by the authors'
own test; `unknown`: no list was read, and nobody may call the row zero-shot.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any

from ovmer.runners.config import Settings, shipped_baselines

TRAIN, TEST, UNKNOWN = "train", "test", "unknown"
COLUMN = "trained on it"
"""Heading of a column of answers."""
MEANING = (
    f"{COLUMN}: whether the model saw clips of the data set in training (yes, no), by the lists of "
    "its authors; unknown: nobody could read these"
)
NO_MODEL = "-"


@dataclass(frozen=True)
class TrainedOn:
    """Whether a model has seen the clips of a data set, with the source."""

    status: str
    source: str = "no training list read"
    note: str = ""

    @property
    def answer(self) -> str:
        """Whether it was trained on the data set, in a word: yes, no, unknown; `-` for no model."""
        return {TRAIN: "yes", TEST: "no"}.get(self.status, self.status)

    @property
    def mark(self) -> str:
        """A footnote for a row that saw the clips; empty for others."""
        if self.status != TRAIN:
            return ""
        return f"it saw clips of this data set, so its row is not zero-shot ({self.source})"


def seen(baseline: str, dataset: str, settings: Mapping[str, Any] | None = None) -> TrainedOn:
    """Whether a baseline has seen a data set of conf/; `settings` are the baseline's.

    Of several lines on one pair that of a training list counts first, then `unknown`.
    """
    if "+" in baseline:  # a combination has seen what one of its parts has
        return _first([seen(part, dataset) for part in baseline.split("+")])
    known = shipped_baselines().get(baseline)
    if known is not None and known.get("status") == "rule":
        return TrainedOn(NO_MODEL, "no model")
    given = settings if settings is not None else known or {}
    if dataset in (given.get("trained_on") or ()):
        return TrainedOn(TRAIN, "ovmer train")
    found = [
        each
        for pattern, data_sets, each in _lines()
        if _is_meant(pattern, baseline, given) and (dataset in data_sets or "*" in data_sets)
    ]
    return _first(found)


def seen_by(settings: Settings) -> TrainedOn:
    """The same of a run's settings; no list can say that clips of one's own were not seen."""
    found = seen(settings.baseline["name"], settings.dataset["name"], settings.baseline)
    if settings.clips is not None and found.status == TEST:
        return TrainedOn(UNKNOWN, "clips of one's own are on no list")
    return found


def over(baseline: str | None, datasets: Sequence[str]) -> str:
    """`answer` for several data sets: `yes, 1 of 9` where one of nine was seen."""
    if baseline is None or not datasets:
        return ""
    found = [seen(baseline, dataset) for dataset in datasets]
    if len({each.status for each in found}) == 1:
        return found[0].answer
    if trained := [each for each in found if each.status == TRAIN]:
        return f"{trained[0].answer}, {len(trained)} of {len(found)}"
    return UNKNOWN


def _first(found: Sequence[TrainedOn]) -> TrainedOn:
    order = (TRAIN, UNKNOWN, TEST, NO_MODEL)
    return min(found, key=lambda each: order.index(each.status), default=TrainedOn(UNKNOWN))


@cache
def _lines() -> list[tuple[str, list[str], TrainedOn]]:
    path = files("ovmer.runners.papers").joinpath("published", "trained_on.csv")
    rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    return [
        (pattern, row["datasets"].split(), TrainedOn(row["seen"], row["source"], row["note"]))
        for row in rows
        for pattern in row["baselines"].split()
    ]


def _is_meant(pattern: str, baseline: str, settings: Mapping[str, Any]) -> bool:
    """`affectgpt` or, of one release, `affectgpt:release=ovmerd*`."""
    name, colon, setting = pattern.partition(":")
    if name != baseline:
        return False
    key, _, value = setting.partition("=")
    return not colon or fnmatchcase(str(settings.get(key)), value)
