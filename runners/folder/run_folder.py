"""The folder of one run: what stands in it, and who may write to it.

    predictions.jsonl   one line a clip, appended as it is done           (records.Prediction)
    labels.jsonl        one line a description and extractor, likewise    (records.Labelled)
    scores.json         figures, by "extractor/metric"
    run.json            identity and settings of the run, and each session that worked on it
    predictions.csv, results-*.npz, *-openset.npz    for use elsewhere    (exchange.py)

The folder belongs to one identity (`Job.identity`): a run that would say other words is refused.
One process writes at a time. Json files are replaced as a whole, so a reader never sees half a one.
"""

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.folder.records import Labelled, Prediction, RecordWriter, read_records

_SHOWN = 80  # characters of a value in a message


class RunFolder:
    """Reads a run folder; inside `with` it writes too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held = ExitStack()

    def read_predictions(self) -> dict[str, Prediction]:
        """The last record of each clip."""
        return {
            each.name: each for each in read_records(self.path / "predictions.jsonl", Prediction)
        }

    def read_labels(self) -> dict[str, Labelled]:
        """By their key, since several extractors may have read the same descriptions."""
        return {each.key: each for each in read_records(self.path / "labels.jsonl", Labelled)}

    def read_json(self, name: str) -> dict[str, Any]:
        """What a json file of the folder holds; empty where there is none."""
        path = self.path / name
        try:
            found = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise PrerequisiteError(f"{path} is no JSON ({error}); remove it") from error
        if not isinstance(found, dict):
            raise PrerequisiteError(f"{path} is no JSON object; remove it")
        return found

    def check(self, identity: Mapping[str, Any]) -> None:
        """Raise PrerequisiteError where the folder was made by another configuration."""
        made_by = self.read_json("run.json").get("identity")
        if made_by is None or made_by == identity:
            return
        differing = [
            f"{key} ({_short(made_by.get(key))} there, {_short(identity.get(key))} now)"
            for key in sorted(made_by.keys() | identity.keys())
            if made_by.get(key) != identity.get(key)
        ]
        raise PrerequisiteError(
            f"{self.path} was made with other settings: {'; '.join(differing)}; give this run a "
            "folder of its own with variant=WORD, or remove that one"
        )

    def __enter__(self) -> Self:
        """Take the folder for writing; PrerequisiteError where another process has it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            writer = RecordWriter[Prediction](self.path / "predictions.jsonl")
            self.predictions = self._held.enter_context(writer)
            labels = RecordWriter[Labelled](self.path / "labels.jsonl")
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
        self._held.close()

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Replace a json file of the folder at one stroke."""
        text = json.dumps(values, ensure_ascii=False, indent=1, default=str)
        self.replace(name, text.encode("utf-8", "replace") + b"\n")

    def replace(self, name: str, content: bytes) -> None:
        """Replace a file of the folder at one stroke; OSError names it where that fails."""
        fresh = self.path / f".{name}.new"
        try:
            with fresh.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path / name)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(self.path / name)) from error


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
