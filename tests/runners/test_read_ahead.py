"""Weight files of the next job are read while a job runs: bounded, and only what is here."""

import threading
from pathlib import Path

import pytest

from ovmer.runners.sweeping.read_ahead import read, weight_files
from tests.runners.jobs import job

MB = 2**20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("config.json", "tokenizer.model", "a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes(bytes(20 * MB if name.endswith("s") else 1))
    return tmp_path


def test_weight_files_are_those_of_the_checkpoint(folder: Path) -> None:
    path = f"baseline.checkpoint.model.path={folder}"
    made = job("baseline=video_llava_hf", "dataset=sample", path)
    assert [file.name for file in weight_files(made)] == ["a.safetensors", "b.safetensors"]
    assert weight_files(job("baseline=lexicon", "dataset=sample")) == []
    lost = job("baseline=video_llava_hf", "dataset=sample", f"{path}/none")
    assert weight_files(lost) == []


def test_no_more_is_read_than_memory_allows(folder: Path) -> None:
    files, over = sorted(folder.glob("*.safetensors")), threading.Event()
    assert read(files, over, at_most=10**12) == 40 * MB
    assert read(files, over, at_most=25 * MB) == 36 * MB, "16 MB at a time"
    over.set()
    assert read(files, over, at_most=10**12) == 0
