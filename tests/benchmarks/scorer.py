"""How fast the scorer is: `python -m tests.benchmarks.scorer [FOLDER OF THE AUTHORS' TABLES]`.

20,000 invented clips with zero to nine labels on each side, a sixth of them outside the
vocabulary; all twelve wheel metrics and their averages. Then 100,000 replies by the four protocols
of task=dfew. Times are the best of five, since other work on the machine only ever adds; processor
time tells how busy it was. Without a folder the tables that `ovmer fetch` brought are used, else
the shipped ones.
"""

import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ovmer.runners.scoring import make_metric
from ovmer.runners.scoring.vocabulary import load_vocabulary

CLIPS = 20_000
REPLIES = 100_000
EMOTIONS = ["happy", "sad", "neutral", "angry", "surprise", "disgust", "fear"]
FORMS = (
    "{0}",
    "{0}.",
    "The answer is {0}",
    "<think>He smiles because she sees the door, {1}?</think><answer>{0}</answer>",
    "She looks at the door and talks softly, {0} and yet calm, until he goes away.",
    "{0} or {1}",
    "I am not sure.",
    "",
)
REPLICATES = 1_000
REPEATS = 5


def main() -> None:
    """Print each time beside what it may be at most."""
    root = sys.argv[1] if len(sys.argv) > 1 else "auto"
    vocabulary = load_vocabulary(root)  # compiles the tables, which is done once a machine
    words = sorted(vocabulary.rows)
    words += [f"unknown{i}" for i in range(len(words) // 5)]
    rng = random.Random(0)
    truth, predictions = (_labels(rng, words) for _ in range(2))
    metric = make_metric({"name": "wheel", "wheel_root": root})
    scores = metric.score(predictions, truth)
    print(f"{CLIPS} clips, vocabulary {vocabulary.name}, best of {REPEATS}")
    _show("scoring, twelve metrics", lambda: metric.score(predictions, truth).figures, 0.25)
    _show(f"{REPLICATES} replicates on top", lambda: scores.with_intervals(REPLICATES), 2.0)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("predictions.csv", "truth.csv")]
        for path, labels in zip(paths, (predictions, truth), strict=True):
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("name", "openset"), *labels.items()])
        command = [
            *(sys.executable, "-m", "ovmer", "score"),
            *(f"predictions={paths[0]}", f"truth={paths[1]}", f"metric.wheel_root={root}"),
        ]
        _show("whole command", lambda: _run([*command, "bootstrap=0"]), 1.5)
        _show("whole command, intervals", lambda: _run(command), 3.5)
        command = [*command[:4], "task=dfew", *_replies(Path(folder), rng)]
        _show(f"{REPLIES} replies to a task", lambda: _run([*command, "bootstrap=0"]), 5.0)
        _show("the same, intervals", lambda: _run(command), 10.0)


def _replies(folder: Path, rng: random.Random) -> list[str]:
    """Settings that name files of replies and true labels."""
    rows = {"truth": [("name", "label")], "predictions": [("name", "reply")]}
    for i in range(REPLIES):
        true, other = rng.choice(EMOTIONS), rng.choice(EMOTIONS)
        said = true if rng.random() < 0.6 else other
        rows["truth"].append((str(i), true))
        rows["predictions"].append((str(i), rng.choice(FORMS).format(said, other)))
    for name, content in rows.items():
        with (folder / f"replies-{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(content)
    return [f"{name}={folder}/replies-{name}.csv" for name in rows]


def _labels(rng: random.Random, words: list[str]) -> dict[str, str]:
    """Half of the cells as a list in brackets, half in the Python way."""
    cells = {}
    for i in range(CLIPS):
        labels = rng.choices(words, k=rng.randint(0, 9))
        cells[f"sample_{i:08d}"] = f"[{', '.join(labels)}]" if i % 2 else str(labels)
    return cells


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _show(what: str, body: Callable[[], object], at_most: float) -> None:
    walls, processors = [], []
    for _ in range(REPEATS):
        started, used = time.perf_counter(), sum(os.times()[:4])
        body()
        walls.append(time.perf_counter() - started)
        processors.append(sum(os.times()[:4]) - used)
    print(
        f"  {what:28s} {min(walls):6.3f} s   (at most {at_most} s; "
        f"{min(processors):.2f} s of processor time)"
    )


if __name__ == "__main__":
    main()
