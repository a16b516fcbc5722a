"""Measure agreement of judges, seeds or models on the same clips: Krippendorff's alpha.

ovmer agreement task=mme_emotion runs=[judge_a.csv,judge_b.csv] dataset=mme_emotion_sa

Each run is a run folder or a file of replies (of a judge's answers, where the task is judged). They
are read by the protocols of the task; a reply in which nothing is read counts as missing.
"""

from dataclasses import dataclass, field

from tabulate import tabulate

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners import cli
from ovmer.runners.commands.score import CommonSettings, compose_settings, read_truth, score_file
from ovmer.runners.tasks.agreement import agreement
from ovmer.runners.tasks.metric import ProtocolMetric


@dataclass
class AgreementSettings(CommonSettings):
    """`conf/agreement.yaml`."""

    runs: list[str] = field(default_factory=list)


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
    scored = {path: score_file(settings, metric, path, truth) for path in settings.runs}
    rows = [
        [each.protocol, f"{each.alpha:.4f}", each.level, each.clips]
        for each in agreement(metric, scored)
    ]
    print(tabulate(rows, ["protocol", "alpha", "level", "clips"], disable_numparse=True))
    for path, scores in scored.items():
        unknown = {name: v for name, v in scores.figures.items() if name.endswith("/unknown")}
        shares = ", ".join(f"{name} {100 * value:.1f} %" for name, value in unknown.items())
        print(f"- {path}: {shares}")
    return cli.FINE
