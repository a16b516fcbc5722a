"""A dry run of training that the tests of it share."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]


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


@pytest.fixture(scope="session")
def dry_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which `ovmer train recipe=affectgpt dry_run=true` has run."""
    folder = tmp_path_factory.mktemp("train")
    done = ovmer("train", "recipe=affectgpt", "dry_run=true", at=folder)
    assert done.returncode == 0, done.stderr
    return folder
