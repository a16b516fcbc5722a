"""A sweep that is killed half way leaves no process behind, and the same command finishes it."""

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
_CLIPS = 10
_ONE_BY_ONE = {"transformers": "batch_size=1", "vllm": "+engine.options.max_num_seqs=1"}
"""So that the first record is written before the last clip is asked."""


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
    command += [_ONE_BY_ONE[engine]]
    environment = os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    started = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    family = _kill_at_a_record(started, folder)
    _, alive = psutil.wait_procs(family, timeout=30)
    for process in alive:
        process.kill()
    before = _records(folder)
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        text = f"killed at {before} records; the resume took longer than {_SECONDS} s"
        return Row.of("killed run", engine, False, text)
    # 1: one clip of the sample has no picture.
    finished = done.returncode in (0, 1) and _records(folder) == _CLIPS
    half_way = 0 < before < _CLIPS
    text = (
        f"killed at {before} of {_CLIPS} records with {len(family)} processes of its own, of which "
        f"{len(alive)} were left after 30 s; {_records(folder)} records at the end"
    )
    if not half_way:
        text += "; it was not killed half way, which shows nothing"
    if not finished:
        text += f"; the resume said: {(done.stderr.strip().splitlines() or [''])[-1][:120]}"
    has_engine = engine != "vllm" or bool(family)
    return Row.of("killed run", engine, half_way and has_engine and not alive and finished, text)


def _kill_at_a_record(started: "subprocess.Popen[bytes]", folder: Path) -> Sequence[psutil.Process]:
    """Kill it as soon as it has described a clip; returns what processes it had started.

    The second record is waited for, as one clip of the sample fails without being asked.
    """
    family, until = list[psutil.Process](), time.monotonic() + _SECONDS
    while time.monotonic() < until and started.poll() is None and _records(folder) < 2:
        time.sleep(0.05)
        try:
            family = psutil.Process(started.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            break
    started.kill()
    started.wait()
    return family


def _records(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*/*/predictions.jsonl"))
