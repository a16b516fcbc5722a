"""Data sets made on the spot, and commands run as a user runs them."""

import csv
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests import processes

LABELS = ("happy", "sad", "angry", "worried", "surprised", "anxious")

Command = Callable[..., subprocess.CompletedProcess[str]]


def write_tables(root: Path, names: Sequence[str]) -> Path:
    """The two csv files of the OV-MERD layout; media are not made."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "track2_train_ovmerd.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "openset"])
        rows.writerows([n, f"[{LABELS[i % 6]}, {LABELS[i % 5]}]"] for i, n in enumerate(names))
    with (root / "subtitle_chieng.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "chinese", "english"])
        rows.writerows([n, "我很好", f"I am {LABELS[i % 4]}."] for i, n in enumerate(names))
    return root


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six clips `a` to `f` with media files that hold a few bytes: enough for the fake model."""
    root = write_tables(tmp_path / "data", "abcdef")
    for folder, ending in (("video", "mp4"), ("audio", "wav")):
        (root / folder).mkdir()
        for name in "abcdef":
            (root / folder / f"{name}.{ending}").write_bytes(name.encode())
    return root


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run `ovmer ARGUMENTS` to its end."""

    def run(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
        return processes.run(arguments, tmp_path, [path] if path else [])

    return run


@pytest.fixture
def on_data(data: Path) -> list[str]:
    """The overrides that name the data set."""
    return ["dataset=ovmerd", f"dataset.root={data}"]


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A folder for runs."""
    return tmp_path / "outputs"
