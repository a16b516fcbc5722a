"""Runs with one figure, whose intervals and differences are known."""

from typing import Any

import numpy as np

from ovmer.runners.scoring import Contributions, Scores


def accuracy(hits: np.ndarray[Any, Any], metric: str = "accuracy") -> Scores:
    """A run with one figure, the mean of its column."""
    clips = tuple(f"clip{i:04d}" for i in range(len(hits)))
    columns = np.stack([hits, np.ones(len(hits))], axis=1).astype(np.float64)
    return Scores(
        metric=metric,
        primary="accuracy",
        conditions={},
        comparable=True,
        contributions=Contributions(clips, ("hit", "counted"), columns),
        aggregate=lambda sums: {"accuracy": sums[..., 0] / sums[..., 1]},
        counted=np.ones(len(hits), dtype=bool),
        notes=[],
    )


def graded(runs: int, clips: int = 400, step: float = 0.02, seed: int = 3) -> dict[str, Scores]:
    """Runs of which each is right on more clips than the one before, on shared hard clips."""
    random = np.random.default_rng(seed)
    hardness = random.random(clips)
    return {
        f"r{i}": accuracy((0.5 * hardness + 0.5 * random.random(clips)) < 0.4 + step * i)
        for i in range(runs)
    }


def speakers(count: int, clips: int, seed: int = 2) -> Scores:
    """A run that is right on most clips of some speakers and on few of the others."""
    random = np.random.default_rng(seed)
    chances = np.repeat(random.beta(3, 2, size=count), clips)
    run = accuracy(random.random(len(chances)) < chances)
    names = run.contributions.clips
    return run.in_clusters({name: f"s{i // clips}" for i, name in enumerate(names)}, "speaker")
