"""Run folders for the tests of the report: real ones, and such as no model would make on demand."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ovmer.baselines.errors import Status
from ovmer.runners.folder.records import LabelRecord, Prediction
from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.folder.run_json import RunInfo
from tests.runners.jobs import job

SCRIPT = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
MEGABYTE = "Er wirkt traurig. " * 60_000

Said = Mapping[str, Prediction]


def said(name: str, text: str, **more: object) -> Prediction:
    return Prediction(name, Status.OK if text else Status.EMPTY, text, **more)  # type: ignore[arg-type]


def write_run(
    outputs: Path,
    name: str,
    predictions: Sequence[Prediction],
    labels: Mapping[str, Sequence[str]],
    *overrides: str,
) -> Path:
    """A run folder of `sample` (or what the overrides say) with just these answers and labels."""
    made = job("baseline=random", f"baseline.name={name}", f"outputs={outputs}", *overrides)
    with RunFolder(made.folder) as folder:
        for each in predictions:
            folder.predictions.append(each)
        for clip, found in labels.items():
            folder.labels.append(
                LabelRecord(clip, tuple(found), ", ".join(found), f"{name} {clip}")
            )
        settings = asdict(made.settings)
        folder.write_info(RunInfo(made.identity, settings, clips=len(predictions)))
    return made.folder


def change_settings(folder: Path, **dataset: object) -> None:
    """Say in run.json that the run was made with another data set."""
    run = json.loads((folder / "run.json").read_text("utf-8"))
    run["settings"]["dataset"] |= dataset
    (folder / "run.json").write_text(json.dumps(run), "utf-8")
