"""Further tables of a board: label counts without a truth, and the ablation of inputs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ovmer.runners.ablation import AblationRun, changes
from ovmer.runners.report.runs import ReportRun
from ovmer.runners.scoring import Scores

_MOST = 40
"""Labels of a board that are shown, the most frequent of all runs together."""


def label_counts(runs: Sequence[ReportRun]) -> dict[str, Any]:
    """Label -> the number of clips that each run gives it to; empty where there is a truth."""
    if any(run.truth for run in runs):
        return {}
    counts = [_counts(run) for run in runs]
    together = sum(counts, Counter[str]())
    labels = [label for label, _ in together.most_common(_MOST)]
    return {
        "labels": {label: [each[label] for each in counts] for label in labels},
        "others": len(together) - len(labels),
        "different": [len(each) for each in counts],
    }


def input_changes(rows: Sequence[tuple[str, ReportRun, Scores | None]]) -> list[dict[str, Any]]:
    """The ablation of inputs for a board's (name, run, scores to compare)."""
    found = [AblationRun(name, run.settings, _said(run), scores) for name, run, scores in rows]
    return [asdict(each) for each in changes(found)]


def _said(run: ReportRun) -> dict[str, str]:
    return {n: each.description for n, each in run.predictions.items() if not each.failed}


def _counts(run: ReportRun) -> Counter[str]:
    """Labels of the first reading, lower-case and stripped as metrics read them."""
    return Counter(
        label
        for each in run.readings[0].values()
        for label in dict.fromkeys(word.lower().strip() for word in each.labels)
        if label
    )
