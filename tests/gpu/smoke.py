"""The first thing to run on a machine with a GPU: `python -m tests.gpu.smoke`.

It needs this repository and its `test` extra, no weights and no network. In at most ten minutes it
looks at what only a GPU can show, prints one table, and writes it to a file that is worth sending
with a report, whether or not a row failed. On a machine without a GPU it runs what can be shown
there. Each group of checks is a process of its own, so that one that crashes leaves the others.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.gpu.table import FAIL, NOTE, Row, rendered

GROUPS = ("attention", "memory", "killed", "runners", "engines", "models")
MINUTES = 10.0
LEAST_SECONDS = 30.0


def main() -> int:
    """Print the table; 1 where a row failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:N")
    parser.add_argument("--groups", nargs="+", default=GROUPS, choices=GROUPS)
    parser.add_argument("--only", default="", help="models whose name holds this")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="the longest it may take")
    parser.add_argument("--out", type=Path, default=Path("gpu_smoke.md"))
    parser.add_argument("--run", choices=GROUPS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        return _run(given.run, _device(given.device), given.only)
    until = time.monotonic() + 60 * given.minutes
    rows = list[Row]()
    for group in given.groups:
        rows += in_a_process(group, given.device, given.only, until)
    table = rendered(rows, _head(given.device))
    given.out.write_text(table, encoding="utf-8")
    print(f"{table}written to {given.out}")
    return int(any(row.verdict == FAIL for row in rows))


def _device(device: str) -> str:
    from ovmer.baselines.device import resolve

    return str(resolve(device).device)


def _head(device: str) -> Iterator[str]:
    """The machine, as run.json has it."""
    import torch  # noqa: F401  - without it no GPU is looked for

    from ovmer.runners.folder.provenance import provenance

    yield f"# Smoke test on {_device(device)}"
    yield ""
    for key, value in provenance().items():
        shown = value
        if isinstance(value, dict):
            shown = ", ".join(f"{name} {each}" for name, each in value.items())
        yield f"- {key}: {shown}"


def in_a_process(
    group: str, device: str, only: str, until: float, least: float = LEAST_SECONDS
) -> list[Row]:
    """The group's rows, as far as it came; a row more where it died or took too long."""
    started = time.monotonic()
    seconds = max(until - started, least)
    print(f"{group} ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryFile("w+") as said:
        command = [sys.executable, "-m", "tests.gpu.smoke", "--run", group, "--device", device]
        process = subprocess.Popen(
            [*command, "--only", only],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env={"OMP_NUM_THREADS": "1"} | os.environ | {"TOKENIZERS_PARALLELISM": "false"},
            start_new_session=True,  # so that what it starts can be ended with it
        )
        try:
            output, end = process.communicate(timeout=seconds)[0], ""
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, end = process.communicate()[0], f"stopped after {seconds:.0f} s"
        rows = [Row.from_line(line) for line in output.splitlines() if line.startswith('{"check"')]
        if process.returncode and not end:
            said.seek(0)
            last = (said.read().strip().splitlines() or ["it said nothing"])[-1]
            end = f"ended with status {process.returncode}: {last[:150]}"
    if end:
        rows.append(Row(group, "the group", FAIL, end))
    return [*rows, Row(group, "time", NOTE, f"{time.monotonic() - started:.0f} s")]


def _run(group: str, device: str, only: str) -> int:
    """A group in this process, each row printed as it is known."""
    for row in _checks(group, only)(device):
        print(row.as_line(), flush=True)
    return 0


def _checks(group: str, only: str) -> Callable[[str], Iterator[Row]]:
    from tests.gpu import engines, killed, memory, models, numerics

    return {
        "attention": numerics.check,
        "memory": memory.check,
        "killed": killed.check,
        "runners": engines.check_runners,
        "engines": engines.check,
        "models": lambda device: models.check(device, only),
    }[group]


if __name__ == "__main__":
    raise SystemExit(main())
