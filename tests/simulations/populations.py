"""Populations of clips with known figures, from which the simulations draw their samples."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ovmer.runners.scoring import Contributions, Scores, make_metric, metric_settings

CLIPS = 200_000
SHARED = Path(__file__).parents[3] / "shared"
EMOTIONS = ("neutral", "angry", "happy", "sad", "worried", "surprise")
WORDS = (
    *EMOTIONS, "joyful", "anxious", "disgusted", "afraid", "lonely", "proud", "calm", "guilty",
    "excited", "frustrated", "jealous", "hopeful",
)  # fmt: skip


def classes(clips: int = CLIPS, right: float = 0.6, seed: int = 1) -> Scores:
    """One of six emotions a clip, of uneven frequency, named right with a given chance."""
    random = np.random.default_rng(seed)
    truth = random.choice(len(EMOTIONS), size=clips, p=[0.3, 0.2, 0.2, 0.15, 0.1, 0.05])
    guess = random.integers(0, len(EMOTIONS), size=clips)
    said = np.where(random.random(clips) < right, truth, guess)
    return _score("single_label", [EMOTIONS[i] for i in said], [EMOTIONS[i] for i in truth])


def hits(clips: int = CLIPS, seed: int = 2) -> Scores:
    """One true emotion a clip, one to four predicted words."""
    random = np.random.default_rng(seed)
    truth = random.choice(len(EMOTIONS), size=clips, p=[0.2, 0.2, 0.2, 0.2, 0.1, 0.1])
    said = _word_sets(random, clips)
    told = random.random(clips) < 0.4
    said = [
        f"{EMOTIONS[t]}, {words}" if ok else words
        for t, words, ok in zip(truth, said, told, strict=True)
    ]
    return _score("hit_rate", said, [EMOTIONS[i] for i in truth])


def open_words(clips: int = CLIPS, seed: int = 3) -> Scores:
    """Sets of words on both sides, which share a word in half of the clips."""
    random = np.random.default_rng(seed)
    truth, said = _word_sets(random, clips), _word_sets(random, clips)
    told = random.random(clips) < 0.5
    said = [
        f"{t.split(',')[0]}, {words}" if ok else words
        for t, words, ok in zip(truth, said, told, strict=True)
    ]
    return _score("wheel", said, truth)


def _word_sets(random: np.random.Generator, clips: int) -> list[str]:
    sizes = random.integers(1, 5, size=clips)
    words = random.integers(0, len(WORDS), size=(clips, 4))
    return [", ".join(WORDS[i] for i in row[:n]) for row, n in zip(words, sizes, strict=True)]


def _score(metric: str, said: list[str], truth: list[str]) -> Scores:
    settings = metric_settings(metric)
    if metric != "single_label":
        settings["wheel_root"] = str(SHARED / "emotion_wheel")
    names = [f"clip{i:06d}" for i in range(len(truth))]
    return make_metric(settings).score(
        dict(zip(names, said, strict=True)), dict(zip(names, truth, strict=True))
    )


def released() -> dict[str, Scores]:
    """The ten released runs of OV-MERD, 332 clips each."""
    replay: Any = json.loads((SHARED / "golden" / "scorer" / "replay.json").read_text("utf-8"))
    metric = make_metric({**metric_settings("wheel"), "wheel_root": str(SHARED / "emotion_wheel")})
    found = replay["ovmerd"]
    return {
        name: metric.score(run["name2pred"], found["name2gt"])
        for name, run in found["predictions"].items()
    }


def sample(population: Scores, clips: int, random: np.random.Generator) -> Scores:
    """As many clips of the population, drawn with replacement."""
    return of_rows(population, random.integers(0, population.n_clips, size=clips))


def of_rows(population: Scores, rows: Any, values: Any = None) -> Scores:
    """The scores of some of the population's clips, under names of their own."""
    values = population.contributions.values[rows] if values is None else values
    names = tuple(f"clip{i:05d}" for i in range(len(values)))
    sampled = Contributions(names, population.contributions.columns, values)
    return replace(
        population, contributions=sampled, counted=np.ones(len(values), dtype=bool), notes=[]
    )
