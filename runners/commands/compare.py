"""Compare two or more runs on the same clips: difference, interval, p value.

ovmer compare runs=[outputs/ovmerd/salmonn,outputs/ovmerd/video_llava]
ovmer compare runs=[mine.csv,yours.csv] truth=true.csv

Of run folders of one baseline (on another engine, in another data type, with another seed) it also
says whether the model's words differ, and where they part first.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, takewhile
from pathlib import Path

from ovmer.baselines.errors import PrerequisiteError, near
from ovmer.runners import cli
from ovmer.runners.commands.score import (
    SeveralRunsSettings,
    compose_settings,
    read_truth,
    score_file,
)
from ovmer.runners.config import settings_from_json
from ovmer.runners.folder.readings import stored_entry
from ovmer.runners.folder.run_folder import RunFolder, own_run
from ovmer.runners.folder.scores_json import StoredScores, unlike_labels
from ovmer.runners.foreign_text import visible
from ovmer.runners.scoring import Metric, Scores
from ovmer.runners.scoring.comparison import comparison_rows, comparison_text
from ovmer.runners.scoring.grouping import GroupingMetric
from ovmer.runners.scoring.label_files import LabelFile
from ovmer.runners.scoring.result import write_csvs
from ovmer.runners.scoring.significance import MARGIN, PairComparison, RunComparison, compare

_SHOWN = 30  # characters on each side of where words part


@dataclass
class CompareSettings(SeveralRunsSettings):
    """`conf/compare.yaml`."""

    against: str | None = None
    figure: str | None = None
    margin: float = 100 * MARGIN


@cli.command
def main() -> int:
    """The command: prints the table, writes the requested files."""
    return _compare(compose_settings("compare", CompareSettings, __doc__ or ""))


def _compare(settings: CompareSettings) -> int:
    settings.check()
    if settings.margin <= 0:
        raise PrerequisiteError(f"margin is {settings.margin}; give points above 0, like 0.5")
    paths = list(dict.fromkeys(settings.runs))
    if len(paths) < 2:
        raise PrerequisiteError("a comparison needs two runs; give runs=[A,B] or more")
    names = _names(paths)
    metric = settings.make_metric()
    if isinstance(metric, GroupingMetric):
        raise PrerequisiteError(
            "metric=grouping needs recorded groups for each run; score each in Python and hand the "
            "scores to ovmer.runners.scoring.significance.compare"
        )
    truth = read_truth(settings, metric)
    runs = {names[path]: _score(settings, metric, path, truth) for path in paths}
    against = None if settings.against is None else names.get(settings.against, settings.against)
    if against is not None and against not in runs:
        raise PrerequisiteError(f"against={against} is none of the runs; {near(against, runs)}")
    family = compare(
        runs,
        settings.figure,
        missing=settings.missing,
        replicates=settings.bootstrap,
        seed=settings.seed,
        confidence=settings.confidence,
        margin=settings.margin / 100,
    )
    pairs = _shown(family, against)
    print(visible(comparison_text(runs, family, pairs)))
    folders = {names[path]: Path(path).expanduser() for path in paths}
    found = {name: RunFolder(path) for name, path in folders.items() if path.is_dir()}
    for line in (*_makings(found), *_words(found)):
        print(visible(line))
    if settings.output is not None:
        output = Path(settings.output)
        write_csvs(output.parent, {output.stem: comparison_rows(pairs)})
    return cli.FINE


def _score(settings: CompareSettings, metric: Metric, path: str, truth: LabelFile) -> Scores:
    """The scores of one run; an error names it."""
    try:
        return score_file(settings, metric, path, truth)
    except PrerequisiteError as error:
        text = str(error)
        raise PrerequisiteError(text if path in text else f"{path}: {text}") from error


def _shown(family: RunComparison, against: str | None) -> list[PairComparison]:
    """All pairs; or each run less the one called `against`, tested among all pairs like them."""
    if against is None:
        return list(family.pairs)
    others = (family.pair(name, against) for name in family.figures if name != against)
    return [each for each in others if each is not None]


def _makings(folders: Mapping[str, RunFolder]) -> Iterator[str]:
    """That labels were made by unlike extractors, which alone may be the difference."""
    entries = dict[str, StoredScores]()
    for name, folder in folders.items():
        info = own_run(folder.path)
        if info is not None and not info.names_labels:
            entry = stored_entry(folder, settings_from_json(info.settings, folder.path))
            entries |= {} if entry is None else {name: entry}
    if made := unlike_labels(entries):
        makers = "; ".join(f"{name}: {how}" for name, how in made.items())
        yield f"- labels were made unlike, which alone may be the difference ({makers})"


def _words(folders: Mapping[str, RunFolder]) -> Iterator[str]:
    """How often runs of one baseline gave different answers for the same clip."""
    said = {
        name: (info.baseline, folder.read_predictions())
        for name, folder in folders.items()
        if (info := own_run(folder.path))
    }
    for (one, (baseline, first)), (other, (same, second)) in combinations(said.items(), 2):
        both = [name for name, each in first.items() if not (each.failed or name not in second)]
        both = [name for name in both if not second[name].failed]
        if baseline != same or not both:
            continue
        pairs = {name: (first[name].description, second[name].description) for name in both}
        differing = [name for name, (ours, theirs) in pairs.items() if ours != theirs]
        if not differing:
            yield f"- {one} and {other}: the same words of all {len(both)} clips"
            continue
        ours, theirs = pairs[differing[0]]
        alike = takewhile(lambda pair: pair[0] == pair[1], zip(ours, theirs, strict=False))
        at = sum(1 for _ in alike)
        yield (
            f"- {one} and {other}: other words of {len(differing)} of {len(both)} clips; in "
            f"{differing[0]} they part at {_around(ours, at)!r} and {_around(theirs, at)!r}"
        )


def _around(text: str, at: int) -> str:
    """Excerpt of a text around a position."""
    start, end = max(0, at - _SHOWN), at + _SHOWN
    return "..." * (start > 0) + text[start:end] + "..." * (end < len(text))


def _names(paths: list[str]) -> dict[str, str]:
    """Path -> what to call it: the last part, or the whole where two end alike."""
    short = {path: Path(path).name or path for path in paths}
    alike = len(set(short.values())) < len(short)
    return {path: path for path in paths} if alike else short
