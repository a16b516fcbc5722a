"""The next job's weight files are read into the system's page cache while a job generates."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from ovmer.adapters.mllm import Mllm
from ovmer.baselines.checkpoint import local
from ovmer.baselines.errors import CheckpointError
from ovmer.runners.job import Job

_CHUNK = 16 * 2**20
_LOOK = 256 * 2**20
"""Bytes after which the rate is first measured."""
_SLOW = 100 * 2**20
"""Bytes a second; a disk that gives less, as a rule a network's, is left to the job itself."""
_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth"}


@contextmanager
def reading_ahead(job: Job, following: Job | None) -> Iterator[None]:
    """Read the weights of the `following` job once `job`, which runs meanwhile, answers clips."""
    over = threading.Event()
    if following is not None and (files := weight_files(following)):
        arguments = (job.folder / "predictions.jsonl", files, over)
        threading.Thread(target=_read_later, args=arguments, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def weight_files(job: Job) -> list[Path]:
    """Those that are on this machine; nothing is downloaded."""
    adapter = job.adapter
    if job.is_dry or not isinstance(adapter, Mllm):
        return []
    parts = [(name, adapter.checkpoint.get(name)) for name in adapter.needed_parts]
    try:
        found = [local(part, name, job.settings.weights) for name, part in parts if part]
    except CheckpointError:  # which the job itself will say
        return []
    files = [
        file
        for path in filter(None, found)
        for file in (sorted(path.iterdir()) if path.is_dir() else [path])
    ]
    return [file for file in files if file.suffix in _SUFFIXES and file.is_file()]


def read(files: Sequence[Path], over: threading.Event, at_most: int) -> int:
    """Read files until `over` is set; returns how many bytes were read, `at_most` about."""
    total, started = 0, time.monotonic()
    for file in files:
        with suppress(OSError), file.open("rb", buffering=0) as stream:
            while total < at_most and not over.is_set() and (chunk := stream.read(_CHUNK)):
                total += len(chunk)
                if total >= _LOOK and total < _SLOW * (time.monotonic() - started):
                    return total
    return total


def _read_later(records: Path, files: Sequence[Path], over: threading.Event) -> None:
    began = time.time()
    while not over.wait(5):
        with suppress(OSError):
            if records.stat().st_mtime >= began:
                read(files, over, psutil.virtual_memory().available // 2)
                return
