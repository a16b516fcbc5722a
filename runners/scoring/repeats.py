"""Several readings of the same clips (extraction under several seeds): their mean and spread.

The authors' extraction samples without a seed, so one published figure is one draw; OV-MER prints
mean and deviation of two for its grouping metric.
"""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from ovmer.runners.scoring.result import Scores


def repeats_as_json(scores: Sequence[Scores]) -> dict[str, Any]:
    """What `scores.json` holds of one or more readings.

    Of one: its figures with bootstrap intervals over clips. Of several: `figures` are their means,
    `spread` the sample standard deviations, and `repeats` has each reading's own figures.
    """
    if len(scores) == 1:
        return scores[0].with_intervals().as_json()
    each = [one.as_json() for one in scores]
    columns = {name: [one["figures"][name] for one in each] for name in each[0]["figures"]}
    defined = {name: values for name, values in columns.items() if None not in values}
    return {
        **each[0],
        "figures": {name: fmean(defined[name]) if name in defined else None for name in columns},
        "spread": {name: stdev(values) for name, values in defined.items()},
        "repeats": [one["figures"] for one in each],
    }
