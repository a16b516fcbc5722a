"""The folder of one run: its files, and who may write to it.

    predictions.jsonl   one line a clip, appended as it is done           (records.Prediction)
    labels.jsonl        one line a description and extractor, likewise    (records.LabelRecord)
    scores.json         figures, by "extraction/metric"                   (scores_json.StoredScores)
    run.json            identity and settings of the run, its sessions    (run_json.RunInfo)
    predictions.csv, results-*.npz, *-openset.npz    for use elsewhere    (exchange.py)

The folder belongs to one identity (`Job.identity`): a run that would say other words is refused,
by run.json or, where that is lost, by what the predictions themselves say. One process writes at a
time. Json files are replaced as a whole, so a reader never sees half a one. Nothing that a file
names is imported.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.disk import read_object, replace_file
from ovmer.runners.folder.identity import differences
from ovmer.runners.folder.records import (
    LabelRecord,
    Prediction,
    RecordWriter,
    placed_records,
    read_records,
    records_at,
)
from ovmer.runners.folder.run_json import SCHEMA, RunInfo, identity_digest
from ovmer.runners.folder.scores_json import StoredScores
from ovmer.runners.progress import say
from ovmer.runners.typed import from_json

MINIATURE = "miniature"
"""The folder of a dry run's checkpoint, inside the run's."""

_SHOWN = 80  # characters of a value in a message
T = TypeVar("T")


class RunFolder:
    """Reads a run folder; inside `with` it writes too.

    Whatever is wrong with a file is a PrerequisiteError that names it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held = ExitStack()

    def read_predictions(self) -> dict[str, Prediction]:
        """The last record of each clip."""
        return {each.name: each for _, each in self.placed_predictions()}

    def placed_predictions(self) -> Iterator[tuple[int, Prediction]]:
        """Every record in the order they were made, behind its place in the file."""
        return placed_records(self.path / "predictions.jsonl", Prediction)

    def predictions_at(self, places: Iterable[int]) -> Iterator[Prediction]:
        """The records at these places."""
        return records_at(self.path / "predictions.jsonl", Prediction, places)

    def last_record(self) -> float:
        """Time of the last record, in seconds since 1970; 0 if there is none."""
        path = self.path / "predictions.jsonl"
        return path.stat().st_mtime if path.is_file() else 0.0

    def read_labels(self) -> dict[str, LabelRecord]:
        """By their key, since several extractors may have read the same descriptions."""
        return {each.key: each for each in self.label_records()}

    def label_records(self) -> Iterator[LabelRecord]:
        """Every record in the order they were made."""
        return read_records(self.path / "labels.jsonl", LabelRecord)

    def find_info(self) -> RunInfo | None:
        """The content of run.json; None where there is no such file."""
        values = self._read_json("run.json")
        return None if values is None else self._typed("run.json", RunInfo, values)

    def info(self) -> RunInfo:
        """The content of run.json; PrerequisiteError where there is none."""
        info = self.find_info()
        if info is None:
            raise PrerequisiteError(f"{self.path} is no run folder: it holds no run.json")
        return info

    def read_scores(self) -> dict[str, StoredScores]:
        """The entries of scores.json by their key, `extraction/metric`."""
        values = self._read_json("scores.json") or {}
        if values.pop("schema", 0):
            values = values.get("scores", {})
        if not isinstance(values, dict):
            raise PrerequisiteError(f"{self.path / 'scores.json'} holds no object of scores")
        found = {}
        for key, entry in values.items():
            # Before schema 1 the key alone said how the labels were made.
            known = dict(zip(("extraction", "metric"), key.rsplit("/", 1), strict=False))
            entry = known | entry if isinstance(entry, dict) else entry
            found[key] = self._typed("scores.json", StoredScores, entry)
        return found

    def is_stale(self, identity: Mapping[str, Any]) -> bool:
        """Whether the folder was made by another configuration, and no clip in it is described.

        So is the folder of a run that failed before its settings were corrected.
        """
        info = self.find_info()
        if info is not None and (
            info.imported is not None or not differences(info.identity, identity)
        ):
            return False
        predictions = self.read_predictions().values()
        if info is None and {each.made_by for each in predictions} <= {identity_digest(identity)}:
            return False
        return all(each.failed for each in predictions)

    def clear(self) -> None:
        """Begin anew: remove what a run has written, once the folder is taken."""
        for name in ("predictions.jsonl", "labels.jsonl"):
            os.truncate(self.path / name, 0)
        for name in ("run.json", "scores.json"):
            (self.path / name).unlink(missing_ok=True)
        if (self.path / MINIATURE).is_dir():
            shutil.rmtree(self.path / MINIATURE)

    def check(self, identity: Mapping[str, Any]) -> None:
        """Raise PrerequisiteError where another configuration made descriptions in the folder."""
        if self.is_stale(identity):
            return
        info = self.find_info()
        if info is None:
            self._check_predictions(identity)
        elif info.imported is not None:
            raise PrerequisiteError(f"{self.path} holds imported predictions; {_ELSEWHERE}")
        elif differing := differences(info.identity, identity):
            named = [
                "baseline.code (the adapter's code was edited since)"
                if key == "baseline.code" and None not in (there, now)
                else f"{key} ({_short(there)} there, {_short(now)} now)"
                for key, (there, now) in differing.items()
            ]
            raise PrerequisiteError(
                f"{self.path} was made with other settings: {'; '.join(named)}; {_ELSEWHERE}"
            )

    def _check_predictions(self, identity: Mapping[str, Any]) -> None:
        """Without run.json, each prediction must say that it was made under this identity."""
        made_by = {each.made_by for each in self.read_predictions().values()}
        if made_by - {identity_digest(identity)}:
            why = "do not say what made them" if "" in made_by else "were made with other settings"
            raise PrerequisiteError(
                f"{self.path} has lost its run.json, and its predictions {why}; {_ELSEWHERE}"
            )

    def __enter__(self) -> Self:
        """Take the folder for writing; PrerequisiteError where another process has it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            writer = RecordWriter[Prediction](self.path / "predictions.jsonl")
            self.predictions = self._held.enter_context(writer)
            labels = RecordWriter[LabelRecord](self.path / "labels.jsonl")
            self.labels = self._held.enter_context(labels)
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.__exit__(kind, error, trace)

    def write_info(self, info: RunInfo) -> None:
        values = asdict(replace(info, schema=SCHEMA))
        self._write_json("run.json", {k: v for k, v in values.items() if v not in (None, {})})

    def write_scores(self, entries: Iterable[StoredScores]) -> None:
        scores = {each.key: asdict(each) for each in entries}
        self._write_json("scores.json", {"schema": SCHEMA, "scores": scores})

    def _write_json(self, name: str, values: Mapping[str, Any]) -> None:
        text = json.dumps(values, ensure_ascii=False, indent=1, default=str)
        replace_file(self.path / name, text.encode("utf-8", "replace") + b"\n")

    def _read_json(self, name: str) -> dict[str, Any] | None:
        values = read_object(self.path / name)
        schema = (values or {}).get("schema", 0)
        if type(schema) is not int or schema > SCHEMA:
            raise PrerequisiteError(
                f"{self.path / name} has the schema {_short(schema)} of a newer version, and this "
                f"one reads up to {SCHEMA}; update ovmer"
            )
        return values

    def _typed(self, name: str, kind: type[T], values: Any) -> T:
        try:
            return from_json(kind, values)
        except ValueError as error:
            raise PrerequisiteError(
                f"{self.path / name} is not as this version writes it ({error})"
            ) from error


def own_run(path: Path) -> RunInfo | None:
    """What run.json says of a run of ours; None for imported predictions and any other path."""
    info = RunFolder(path).find_info() if path.is_dir() else None
    return None if info is None or info.imported is not None else info


_ELSEWHERE = "give this run a folder of its own with variant=WORD, or remove that one"


def read_folders(paths: Sequence[Path], read: Callable[[RunFolder], T]) -> list[T]:
    """`read` of every run folder at or below the paths; one that raises is left out, with a line.

    Raises PrerequisiteError where a path is no folder, and where nothing can be read.
    """
    found = []
    for folder in find_folders(paths):
        try:
            found.append(read(RunFolder(folder)))
        except PrerequisiteError as error:
            say(f"left out: {error}")
    if not found:
        raise PrerequisiteError(
            f"{', '.join(map(str, paths))}: no run folders there that can be shown (they hold a "
            "run.json); ovmer sweep makes them"
        )
    return found


def find_folders(paths: Sequence[Path]) -> list[Path]:
    """Every folder at or below the paths that holds a run.json, each once; links are followed."""
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            raise PrerequisiteError(f"there is no folder {path}")
        found |= dict.fromkeys(_below(path, set()))
    return list(found)


def _below(path: Path, seen: set[Path]) -> Iterator[Path]:
    real = path.resolve()
    if real in seen:  # a link to a folder above
        return
    seen.add(real)
    if os.path.lexists(path / "run.json"):
        yield path
        return
    try:
        below = sorted(each.path for each in os.scandir(path) if each.is_dir())
    except OSError:
        return  # a folder of somebody else's, say
    for each in below:
        yield from _below(Path(each), seen)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
