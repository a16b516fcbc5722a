"""A dry run of training that the tests of it share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ovmer.runners.training.run import TrainingRun
from ovmer.runners.training.settings import compose_train

DRY = ("recipe=affectgpt", "dry_run=true", "train.report_to=[]")


def ovmer(*arguments: str, at: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, as a process of its own."""
    program = "from ovmer.runners.commands import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=at,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def train(*overrides: str) -> TrainingRun:
    """Train in this process, where the test stands; returns the run."""
    run = TrainingRun(compose_train(list(overrides)), list(overrides))
    run.train()
    return run


@pytest.fixture(scope="session")
def dry_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of `ovmer train recipe=affectgpt dry_run=true`."""
    outputs = tmp_path_factory.mktemp("train")
    return train(*DRY, f"outputs={outputs}").folder
