"""Compare two or more runs on the same clips: difference, interval, p value.

python -m runners.compare runs=[outputs/ovmerd/salmonn,outputs/ovmerd/video_llava] truth=true.csv
"""

from dataclasses import dataclass, field
from pathlib import Path

from baselines.errors import PrerequisiteError
from runners import cli
from runners.score import CommonSettings, compose_settings, read_truth, score_file
from runners.scoring import make_metric
from runners.scoring.compare import compare, comparison_rows
from runners.scoring.grouping import GroupingMetric
from runners.scoring.report import compare_text, write_tables


@dataclass
class CompareSettings(CommonSettings):
    """`conf/compare.yaml`."""

    runs: list[str] = field(default_factory=list)
    against: str | None = None
    figure: str | None = None


@cli.command
def main() -> int:
    """The command: prints the table, writes what was asked for."""
    return _compare(compose_settings("compare", CompareSettings, __doc__ or ""))


def _compare(settings: CompareSettings) -> int:
    settings.check(least=1)
    paths = list(dict.fromkeys(settings.runs))
    if len(paths) < 2:
        raise PrerequisiteError("a comparison needs two runs; give runs=[A,B] or more")
    names = _names(paths)
    metric = make_metric(settings.metric)
    if isinstance(metric, GroupingMetric):
        raise PrerequisiteError(
            "metric=grouping needs recorded groups for each run; score each in Python and hand the "
            "scores to runners.scoring.compare.compare"
        )
    truth = read_truth(settings, metric)
    runs = {names[path]: score_file(settings, metric, path, truth) for path in paths}
    against = None if settings.against is None else names.get(settings.against, settings.against)
    comparisons = compare(
        runs,
        settings.figure,
        against,
        settings.bootstrap,
        settings.seed,
        settings.confidence,
    )
    figure = settings.figure or metric.primary
    print(compare_text(runs, comparisons, figure, settings.confidence))
    if settings.output is not None:
        output = Path(settings.output)
        write_tables(output.parent, {output.stem: comparison_rows(comparisons)})
    return cli.FINE


def _names(paths: list[str]) -> dict[str, str]:
    """Path -> what to call it: the last part, or the whole where two end alike."""
    short = {path: Path(path).name or path for path in paths}
    alike = len(set(short.values())) < len(short)
    return {path: path for path in paths} if alike else short


if __name__ == "__main__":
    main()
