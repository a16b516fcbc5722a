"""Figures of checkpoints: each is asked and scored by a sweep, like any baseline.

The table shows three ways to choose one of them, by name:

    last                   the end of the run
    best on validation     chosen on clips that are neither trained on nor reported
    best on the test set   as the paper chose, for each test set anew; it flatters
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.disk import read_object, replace_file
from ovmer.runners.progress import say
from ovmer.runners.scoring.result import percent
from ovmer.runners.training.settings import TrainSettings
from ovmer.runners.training.trainable import Trainable

Figures = dict[str, dict[str, float | None]]
"""Data set -> step -> primary figure, in [0, 1]; None where no clip counts."""
TRAINED = "trained"
LAST, VALIDATION, TEST = "last", "best on validation", "best on the test set"


class Evaluation:
    """The sweeps over the checkpoints of one run folder."""

    def __init__(self, settings: TrainSettings, trainable: Trainable, folder: Path) -> None:
        self._settings, self._trainable, self._folder = settings, trainable, folder
        self._asked = settings.train.validation
        trained_on = set(settings.train.mixture) or {settings.dataset["name"]}
        if self._asked.dataset in trained_on and not settings.dry_run:
            say(f"train.validation.dataset={self._asked.dataset} is trained on as well")
        self._saved = 0

    def saved(self, checkpoint: Path) -> None:
        """Score a fresh checkpoint for validation, if it is its turn."""
        self._saved += 1
        every = self._asked.every
        if self._asked.dataset and every and self._saved % every == 0:
            self._score(checkpoint, self._asked.dataset)

    def finish(self, checkpoints: Sequence[Path]) -> str:
        """Score what is left and return the table, which table.md keeps; empty if none is asked
        for."""
        datasets = [name for name in (self._asked.dataset, *self._asked.tests) if name]
        if not datasets:
            return ""
        for checkpoint in checkpoints:
            for name in dict.fromkeys(datasets):
                self._score(checkpoint, name)
        figures = self._figures()
        tests = self._asked.tests or [self._asked.dataset or ""]
        text = table(figures, self._asked.dataset, tests)
        replace_file(self._folder / "table.md", text.encode() + b"\n")
        return text

    def _figures(self) -> Figures:
        """The figures so far, if they were made with these settings."""
        there = read_object(self._folder / "figures.json") or {}
        found: Figures = there["figures"] if there.get("sets") == list(self._asked.sets) else {}
        return found

    def _score(self, checkpoint: Path, dataset: str) -> None:
        """One sweep, unless its figure is known."""
        from ovmer.runners.folder.readings import stored_entry
        from ovmer.runners.folder.run_folder import RunFolder
        from ovmer.runners.sweeping.jobs import run_jobs
        from ovmer.runners.sweeping.sweep import compose

        step, figures = checkpoint.name, self._figures()
        if step in figures.get(dataset, {}):
            return
        say(f"{step} on {dataset}")
        settings = self._settings
        composed = compose(
            [
                *("--config-dir", str(self._folder)),
                f"baseline={write_baseline(self._trainable, checkpoint)}",
                f"dataset={dataset}",
                f"dataset.visual={self._trainable.visual}",
                f"data_root='{settings.data_root}'",
                f"outputs='{self._folder / 'scores'}'",
                f"machine.device={settings.machine.device}",
                *self._asked.sets,
            ]
        )
        with random_state_kept():
            run_jobs(composed.jobs, composed.launcher)
        job = composed.jobs[0]
        scores = stored_entry(RunFolder(job.folder), job.settings)
        if scores is None:
            raise PrerequisiteError(
                f"{job.folder} has no figure; see its run.json, then run this again"
            )
        figures.setdefault(dataset, {})[step] = scores.figures[scores.primary]
        text = json.dumps({"sets": list(self._asked.sets), "figures": figures}, indent=1)
        replace_file(self._folder / "figures.json", text.encode() + b"\n")


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Context after which all random streams stand where they stood: training goes on with them."""
    import numpy as np
    import torch

    python, arrays = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    np.random.set_state(arrays)


def write_baseline(trainable: Trainable, checkpoint: Path, name: str = "") -> str:
    """Write baseline/NAME.yaml into the run folder, with which `ovmer sweep --config-dir FOLDER
    baseline=NAME` asks a checkpoint; returns the name, by default `step12` for checkpoint-12."""
    import yaml

    name = name or f"step{_number(checkpoint.name)}"
    folder = checkpoint.parent / "baseline"
    folder.mkdir(exist_ok=True)
    text = yaml.safe_dump(trainable.baseline(checkpoint), sort_keys=False, allow_unicode=True)
    replace_file(folder / f"{name}.yaml", text.encode())
    return name


def table(figures: Figures, validation: str | None, tests: Sequence[str]) -> str:
    """Two tables in Markdown: the choices, then every checkpoint."""
    from tabulate import tabulate

    steps = sorted({step for each in figures.values() for step in each}, key=_number)
    chosen = [[name, *_choices(figures, name, validation, steps)] for name in tests]
    every = [[step, *(percent(figures[name].get(step)) for name in figures)] for step in steps]
    first = tabulate(chosen, ["data set", LAST, VALIDATION, TEST], "github", disable_numparse=True)
    second = tabulate(every, ["checkpoint", *figures], "github", disable_numparse=True)
    return f"{first}\n\n{second}"


def _choices(
    figures: Figures, name: str, validation: str | None, steps: Sequence[str]
) -> list[str]:
    own = figures[name]
    cells = [_cell(own, steps[-1])]
    if validation is None or validation == name:
        cells.append("no validation set")
    else:
        cells.append(_cell(own, _best(figures[validation])))
    return [*cells, _cell(own, _best(own))]


def _best(figures: Mapping[str, float | None]) -> str:
    """The step with the highest figure; of equal ones the first."""
    known = {step: -1.0 if value is None else value for step, value in figures.items()}
    return max(sorted(known, key=_number), key=known.__getitem__)


def _cell(figures: Mapping[str, float | None], step: str) -> str:
    return f"{percent(figures.get(step))} ({step})"


def _number(step: str) -> int:
    return int(step.rpartition("-")[2])
