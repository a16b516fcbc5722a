"""A sweep that is killed leaves no process behind, and the same command finishes it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from tests.gpu.table import SKIPPED, Row

_SECONDS = 240


def check(device: str) -> Iterator[Row]:
    """With transformers, and with vLLM in a process of its own."""
    for engine in ("transformers", "vllm"):
        if engine == "vllm" and find_spec("vllm") is None:
            yield Row("killed run", engine, SKIPPED, "vLLM is not installed")
            continue
        with TemporaryDirectory() as folder:
            yield _killed(engine, device, Path(folder))


def _killed(engine: str, device: str, folder: Path) -> Row:
    command = [sys.executable, "-m", "ovmer", "sweep", "baseline=video_llava", "dataset=sample"]
    command += ["dry_run=true", f"engine={engine}", f"machine.device={device}"]
    command += [f"outputs={folder}", "generation=greedy", f"engine.cache={folder}/llm"]
    environment = os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    started = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    family = _kill_at_first_record(started, folder)
    _, alive = psutil.wait_procs(family, timeout=30)
    for process in alive:
        process.kill()
    before = _records(folder)
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=_SECONDS
    )
    # 1: one clip of the sample has no picture.
    finished = done.returncode in (0, 1) and "clips/s" in done.stderr
    text = f"killed at {before} records, {len(alive)} processes left, {_records(folder)} at the end"
    if not finished:
        text += f"; the resume said: {(done.stderr.strip().splitlines() or [''])[-1][:120]}"
    return Row.of("killed run", engine, not alive and finished, text)


def _kill_at_first_record(started: "subprocess.Popen[bytes]", folder: Path) -> Sequence[object]:
    """Kill it as soon as it has described a clip; returns what processes it had started."""
    family, until = list[psutil.Process](), time.monotonic() + _SECONDS
    while time.monotonic() < until and started.poll() is None and not _records(folder):
        time.sleep(0.2)
        try:
            family = psutil.Process(started.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            break
    started.kill()
    started.wait()
    return family


def _records(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*/*/predictions.jsonl"))
