"""Ported MLLMs as their files in conf/baseline set them up, and miniatures of them, loaded."""

from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from ovmer.adapters.base import Machine
from ovmer.adapters.mllm import Mllm
from ovmer.runners.config import CONF, Settings
from ovmer.runners.job import Job


def made(name: str, preset: str = "greedy", **fields: object) -> Job:
    """A job with this baseline, some of whose fields are others."""
    baseline = OmegaConf.to_container(OmegaConf.load(CONF / "baseline" / f"{name}.yaml"))
    assert isinstance(baseline, dict)
    engine = {"name": "transformers"}
    return Job(Settings(baseline=baseline | fields, engine=engine, generation=preset))


def configured(name: str, preset: str = "greedy", **fields: object) -> Mllm:
    adapter = made(name, preset, **fields).adapter
    assert isinstance(adapter, Mllm)
    return adapter


def miniature(
    name: str, folder: Path, preset: str = "greedy", tokens: int | None = None, **fields: object
) -> Mllm:
    """Its answers have `tokens` at most; left out, as many as in a dry run."""
    adapter = configured(name, preset, **fields).miniature(folder)
    if tokens is not None:
        adapter.generation.max_new_tokens = tokens
    adapter.load(Machine(device="cpu"))
    return adapter


def faces(folder: Path, count: int, sides: tuple[int, int] = (60, 80)) -> Path:
    """Face crops that differ from frame to frame, 25 a second."""
    file = folder / f"{count}.npy"
    pictures = np.random.default_rng(count).integers(0, 256, (count, *sides, 3), dtype=np.uint8)
    np.save(file, pictures)
    return file
