"""Scores of predictions that others made, kept as a run folder: tables show them like our own runs.

The folder holds `run.json`, which says that the run is imported and what is known of it, and
`scores.json`. What the predictions were made with cannot be read in them, so it is told.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ovmer.adapters.registry import near
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.config import SUBTITLE, settings_from_json
from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.job import Job
from ovmer.runners.scoring import Scores


@dataclass
class RecordSettings:
    """What is known of somebody's predictions; `baseline` unset: nothing is kept."""

    baseline: str | None = None
    """A name of conf/baseline, or any other; tables match their rows by it."""
    title: str | None = None
    dataset: str | None = None
    subtitle: str | None = None
    extractor: str | None = None
    outputs: str = "outputs"


@dataclass(frozen=True)
class Origin:
    """Where scored predictions came from."""

    predictions: str
    truth: str


def record(settings: RecordSettings, scores: Scores, origin: Origin) -> Path | None:
    """Write OUTPUTS/DATASET/BASELINE-imported; returns it, None where nothing is to be kept.

    Raises PrerequisiteError for a value that is missing or wrong, and for a folder of our own runs.
    """
    if settings.baseline is None:
        return None
    if settings.dataset is None:
        raise PrerequisiteError("record.dataset is not set; tables match their columns by it")
    if settings.subtitle is not None and settings.subtitle not in SUBTITLE:
        raise PrerequisiteError(
            f"record.subtitle is {settings.subtitle!r}; {near(settings.subtitle, SUBTITLE)}"
        )
    for key in ("baseline", "dataset"):
        value = getattr(settings, key)
        if Path(value).name != value:
            raise PrerequisiteError(f"record.{key} is {value!r}, which names no folder")
    path = Path(settings.outputs) / settings.dataset / f"{settings.baseline}-imported"
    path.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(path)
    told = folder.read_json("run.json")
    if told and "imported" not in told:
        raise PrerequisiteError(f"{path} is a run of this project; give another record.baseline")
    extraction = f"{settings.extractor or 'imported'}{_merged(settings)}"
    entries = folder.read_json("scores.json")
    entries[f"{extraction}/{scores.metric}"] = {
        "extractor": {"name": settings.extractor or "imported"},
        **scores.as_json(),
    }
    folder.write_json("run.json", _told(settings, scores, origin))
    folder.write_json("scores.json", entries)
    return path


def add_to_run(path: Path, scores: Scores) -> bool:
    """Keep the scores of a run folder's labels in its scores.json; False where `path` is none.

    The labels are those of the run's last session, which `ovmer score` and `group` read too.
    """
    folder = RunFolder(path)
    told = folder.read_json("run.json") if path.is_dir() else {}
    if "settings" not in told:
        return False
    job = Job(settings_from_json(told["settings"], path), at=path)
    entries = folder.read_json("scores.json")
    made = [entry for key, entry in entries.items() if key.startswith(f"{job.extraction}/")]
    extractor = made[0].get("extractor") if made else {"name": job.settings.extractor["name"]}
    entries[f"{job.extraction}/{scores.metric}"] = {"extractor": extractor, **scores.as_json()}
    folder.write_json("scores.json", entries)
    return True


def _merged(settings: RecordSettings) -> str:
    return "-merge" if settings.subtitle == "merge" else ""


def _told(settings: RecordSettings, scores: Scores, origin: Origin) -> dict[str, Any]:
    return {
        "imported": {
            "baseline": {"name": settings.baseline, "title": settings.title or settings.baseline},
            "dataset": {"name": settings.dataset},
            "subtitle": settings.subtitle,
            "extractor": {"name": settings.extractor},
            **asdict(origin),
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        "clips": scores.n_clips,
        "status": {"ok": scores.n_clips},
    }
