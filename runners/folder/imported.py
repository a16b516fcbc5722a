"""Scores that come from outside a sweep: of predictions that others made, or computed afterwards.

Others' predictions get a run folder with a `run.json`, which says that they are imported and what
is known of them, and `scores.json`; tables show it like our own runs. What the predictions were
made with cannot be read in them, so the user says it.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from ovmer.baselines.errors import PrerequisiteError, Status, one_of
from ovmer.runners.config import SUBTITLE, settings_from_json
from ovmer.runners.folder.run_folder import RunFolder, own_run
from ovmer.runners.folder.run_json import RunInfo
from ovmer.runners.folder.scores_json import stored_scores
from ovmer.runners.naming import extraction_word
from ovmer.runners.progress import say
from ovmer.runners.scoring.result import Scores


@dataclass
class RecordSettings:
    """Origin of imported predictions; `baseline` unset: nothing is kept."""

    baseline: str | None = None
    """A name of conf/baseline, or any other; tables match their rows by it."""
    title: str | None = None
    dataset: str | None = None
    subtitle: str | None = None
    extractor: str | None = None
    outputs: str = "outputs"


@dataclass(frozen=True)
class Origin:
    """Origin of scored predictions."""

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
    if settings.subtitle is not None:
        one_of("record.subtitle", settings.subtitle, SUBTITLE)
    for key in ("baseline", "dataset"):
        value = getattr(settings, key)
        if Path(value).name != value:
            raise PrerequisiteError(f"record.{key} is {value!r}, which names no folder")
    path = Path(settings.outputs) / settings.dataset / f"{settings.baseline}-imported"
    path.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(path)
    before = folder.find_info()
    if before is not None and before.imported is None:
        raise PrerequisiteError(f"{path} is a run of this project; give another record.baseline")
    imported = {
        "baseline": {"name": settings.baseline, "title": settings.title or settings.baseline},
        "dataset": {"name": settings.dataset},
        "subtitle": settings.subtitle,
        "extractor": {"name": settings.extractor},
        **asdict(origin),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    n_clips = scores.n_clips
    folder.write_info(RunInfo(imported=imported, clips=n_clips, status={Status.OK: n_clips}))
    extractor = settings.extractor or "imported"
    extraction = f"{extractor}-merge" if settings.subtitle == "merge" else extractor
    _add(folder, scores, extraction, {"name": extractor})
    return path


def add_to_run(path: Path, scores: Scores) -> bool:
    """Keep the scores of a run folder's labels in its scores.json; False where `path` is none.

    The labels are those of the run's last session, which `ovmer score` and `group` read too.
    """
    info, folder = own_run(path), RunFolder(path)
    if info is None:
        return False
    settings = settings_from_json(info.settings, path)
    extraction = extraction_word(settings)
    made = [each for each in folder.read_scores().values() if each.extraction == extraction]
    extractor = made[0].extractor if made else {"name": settings.extractor["name"]}
    _add(folder, scores, extraction, dict(extractor))
    return True


def _add(folder: RunFolder, scores: Scores, extraction: str, extractor: dict[str, object]) -> None:
    entries = folder.read_scores()
    fresh = stored_scores(scores, extraction=extraction, extractor=extractor)
    before = entries.get(fresh.key, fresh).conditions
    if changed := [key for key in fresh.conditions if before.get(key) != fresh.conditions[key]]:
        values = ", ".join(f"{key}={before.get(key)}" for key in changed)
        say(f"{folder.path}: the figures of {fresh.key} with {values} are replaced")
    folder.write_scores((entries | {fresh.key: fresh}).values())
