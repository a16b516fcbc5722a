"""What a board shows beside figures: how often each label was given, where there is no truth."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ovmer.runners.report.runs import Run

_MOST = 40
"""Labels of a board that are shown, the most frequent of all runs together."""


def label_counts(runs: Sequence[Run]) -> dict[str, Any]:
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


def _counts(run: Run) -> Counter[str]:
    """Labels of the first reading, lower-case and stripped as metrics read them."""
    return Counter(
        label
        for each in run.readings[0].values()
        for label in dict.fromkeys(word.lower().strip() for word in each.labels)
        if label
    )
