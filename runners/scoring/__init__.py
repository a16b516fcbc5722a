"""Labels -> figures: every automatic metric of the OV-MER papers, with error bars.

    from ovmer.runners.scoring import score
    scores = score({"clip1": "[happy, excited]"}, {"clip1": ["joyful"]}, metric="wheel")
    scores.figures["M-avg"]; scores.with_intervals().intervals["M-avg"]

Nothing here imports torch or pandas.
"""

from ovmer.runners.scoring.base import Metric
from ovmer.runners.scoring.make import make_metric, metric_settings, score
from ovmer.runners.scoring.parsing import Labels
from ovmer.runners.scoring.result import Contributions, Scores

__all__ = [
    "Contributions",
    "Labels",
    "Metric",
    "Scores",
    "make_metric",
    "metric_settings",
    "score",
]
