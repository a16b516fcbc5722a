"""Run folders as the tables see them: whose figures, and how they were made.

Our own runs and imported predictions (`ovmer.runners.score record.baseline=...`) are read alike.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.progress import say


@dataclass(frozen=True)
class Scored:
    """One entry of a folder's scores.json: labels made in one way, under one metric."""

    metric: str
    is_merged: bool
    """The subtitle was merged into the answers before the labels were taken."""
    extractor: Mapping[str, Any]
    entry: Mapping[str, Any]
    """As `Scores.as_json` and `repeats_as_json` write it."""

    def value(self, figure: str) -> float | None:
        """In [0, 1]; None where it is undefined or no figure of this metric."""
        found = self.entry["figures"].get(figure)
        return None if found is None else float(found)

    def interval(self, figure: str) -> tuple[float, float] | None:
        """Bootstrap over clips or, where extraction was repeated, two deviations to each side."""
        low, high = self.entry.get("intervals", {}).get(figure) or (None, None)
        if low is not None and high is not None:
            return float(low), float(high)
        spread, value = self.entry.get("spread", {}).get(figure), self.value(figure)
        if spread is None or value is None:
            return None
        return value - 2 * spread, value + 2 * spread


@dataclass(frozen=True)
class Result:
    """One run folder."""

    folder: Path
    baseline: str
    title: str
    dataset: str
    settings: Mapping[str, Any]
    """Of run.json; of an imported run what was told of it."""
    identity: Mapping[str, Any]
    overrides: tuple[str, ...]
    is_imported: bool
    names_labels: bool
    """Its answers are labels, which no extractor has to find in a description."""
    clips: int
    described: int
    failed: int
    problem: str | None
    """Why the last session ended, in one sentence."""
    scored: tuple[Scored, ...]

    @property
    def is_dry(self) -> bool:
        return bool(self.identity.get("dry_run"))

    @property
    def has_truth(self) -> bool:
        labels = self.settings.get("dataset", {}).get("labels", {})
        return not labels or labels.get("column") is not None

    def asked(self, scored: Scored) -> str | None:
        """prompt, merge or none: what became of the subtitle; None where the run says nothing."""
        if self.is_imported:
            return self.settings.get("subtitle")
        if scored.is_merged:
            return "merge"
        return str(self.identity["subtitle"]) if "subtitle" in self.identity else "none"


def read_results(paths: Sequence[Path]) -> list[Result]:
    """Every run folder at or below the paths, in the order of their names.

    A folder that cannot be read is left out with a sentence. Raises PrerequisiteError where a path
    is none, and where there is no run folder at all.
    """
    for path in paths:
        if not path.is_dir():
            raise PrerequisiteError(f"there is no folder {path}")
    found = []
    for folder in dict.fromkeys(folder for path in paths for folder in _folders(path)):
        try:
            result = read_result(folder)
        except PrerequisiteError as error:
            say(f"left out: {error}")
            continue
        if result is not None:
            found.append(result)
    if not found:
        named = ", ".join(map(str, paths))
        raise PrerequisiteError(f"{named} holds no run folder; ovmer sweep makes them")
    return found


def _folders(path: Path) -> Iterator[Path]:
    """At most two levels below: outputs/<data set>/<baseline>."""
    for pattern in ("run.json", "*/run.json", "*/*/run.json"):
        yield from sorted(each.parent for each in path.glob(pattern))


def read_result(folder: Path) -> Result | None:
    """What a folder tells; None where its run.json is of another kind or version."""
    run = RunFolder(folder).read_json("run.json")
    imported: Mapping[str, Any] | None = run.get("imported")
    settings: Mapping[str, Any] = imported or run.get("settings") or {}
    if not settings:
        return None
    baseline, identity = settings["baseline"], run.get("identity", {})
    status: Mapping[str, int] = run.get("status", {})
    answered = sum(status.get(word, 0) for word in ("ok", "empty"))
    sessions = run.get("sessions", [])
    return Result(
        folder,
        _name(baseline, identity),
        str(baseline.get("title") or baseline["name"]),
        str(settings["dataset"]["name"]),
        settings,
        identity,
        tuple(dict.fromkeys(each for one in sessions for each in one.get("overrides", ()))),
        imported is not None,
        run.get("answers") == "labels",
        int(run.get("clips", 0)),
        sum(status.values()),
        sum(status.values()) - answered,
        run.get("problem"),
        tuple(_scored(RunFolder(folder).read_json("scores.json").items())),
    )


def _name(baseline: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """The baseline's name; of a combination those of its parts, `secap+mplug_owl`."""
    sources = identity.get("sources")
    if not sources:
        return str(baseline["name"])
    return "+".join(Path(str(source)).name.partition("-")[0] for source in sources)


def _scored(entries: Iterable[tuple[str, Any]]) -> Iterator[Scored]:
    for key, entry in entries:
        extraction, _, metric = key.rpartition("/")
        yield Scored(metric, extraction.endswith("-merge"), entry.get("extractor", {}), entry)
