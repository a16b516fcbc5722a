"""Measure agreement of judges, seeds or models on the same clips: Krippendorff's alpha.

    ovmer agreement task=dfew runs=[a.csv,b.csv] truth=truth.csv
    ovmer agreement task=mme_emotion dataset=mme_emotion_sa runs=[outputs/mme_emotion_sa/voxtral]

Each run is a run folder or a file of replies (of a judge's answers, where the task is judged). A
run folder that several judges or seeds have read counts once for each. All are read by the
protocols of the task; a reply in which nothing is read counts as missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners import cli
from ovmer.runners.commands.score import (
    SeveralRunsSettings,
    compose_settings,
    read_truth,
    score_file,
)
from ovmer.runners.folder.readings import kept_readings
from ovmer.runners.scoring import Metric, make_metric
from ovmer.runners.scoring.label_files import LabelFile
from ovmer.runners.scoring.result import Scores
from ovmer.runners.tasks.agreement import agreement
from ovmer.runners.tasks.metric import ProtocolMetric
from ovmer.runners.tasks.task import applied


@dataclass
class AgreementSettings(SeveralRunsSettings):
    """`conf/agreement.yaml`."""

    def make_metric(self) -> Metric:
        """That of the judge, where the task has one."""
        return make_metric(applied(self.task, self.metric, {"kind": "judge"})[0])


@cli.command
def main() -> int:
    """The command: prints one alpha a protocol."""
    settings = compose_settings("agreement", AgreementSettings, __doc__ or "")
    metric = settings.make_metric()
    if not isinstance(metric, ProtocolMetric):
        raise PrerequisiteError(
            "agreement is over the replies to a task; give task=, e.g. task=dfew"
        )
    truth = read_truth(settings, metric)
    scored = _scored(settings, metric, settings.runs, truth)
    rows = [
        [each.protocol, f"{each.alpha:.4f}" if each.clips else "-", each.level, each.clips]
        for each in agreement(metric, scored)
    ]
    print(tabulate(rows, ["protocol", "alpha", "level", "clips"], disable_numparse=True))
    for path, scores in scored.items():
        unknown = {name: v for name, v in scores.figures.items() if name.endswith("/unknown")}
        shares = ", ".join(f"{name} {100 * value:.1f} %" for name, value in unknown.items())
        print(f"- {path}: {shares}")
    return cli.FINE


def _scored(
    settings: AgreementSettings, metric: Metric, paths: Sequence[str], truth: LabelFile
) -> dict[str, Scores]:
    """The scores of each run, and of each reading of a run folder that holds several."""
    found = {}
    for path in paths:
        readings = kept_readings(Path(path).expanduser(), metric.name)
        if len(readings) < 2:
            found[path] = score_file(settings, metric, path, truth)
            continue
        for name, reading in readings.items():
            labels = {clip: each.labels for clip, each in reading.items()}
            found[f"{path}, {name}"] = metric.score(labels, truth.values, settings.missing)
    return found
