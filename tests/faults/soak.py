"""Kills at random moments, equal sweeps at once, every fault in every stage, for half an hour.

    python -m tests.faults.soak FOLDER [PART [COUNT]]       PART: within, outside, together, table

By hand: 200 SIGKILLs (of the sweep, of a job of it, of a worker, and by the process itself at a
random one of its writes, labels and replaced files among them), each followed by the same command
at times; what stands at the end must be equal, byte for byte, to an undisturbed run. Then 50 pairs
of equal sweeps started together, and the table of faults. Prints the count after each comparison,
so that a soak that is stopped has still said how far it came.
"""

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.clusters.sweeps import require_known
from tests.faults.runs import Running, kept, require_row, write_data
from tests.faults.table import FAULTS

KILLS, PAIRS, EACH_RUN = 200, 50, 8
"""A run is killed so often before it is let end and compared."""
_WORKER = """
import json, sys, time

print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    time.sleep(0.05)
    print(json.dumps({"id": json.loads(line)["id"], "text": "She is sad."}), flush=True)
"""


@dataclass(frozen=True)
class DieAt:
    """SIGKILL at the n-th write, fsync or replacement of a file that this process makes."""

    count: int

    def __call__(self) -> None:
        left = [self.count]
        for module, name in ((os, "write"), (os, "fsync"), (os, "ftruncate"), (Path, "replace")):
            setattr(module, name, _counting(getattr(module, name), left))


def _counting(real: Callable[..., object], left: list[int]) -> Callable[..., object]:
    def call(*arguments: object) -> object:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)

    return call


def main() -> None:
    """Run the part that is named, or all; AssertionError where a promise is broken."""
    root, wanted = Path(sys.argv[1]).resolve(), sys.argv[2:3]
    count, chance = int((*sys.argv[3:], 0)[0]), random.Random(0)
    parts: dict[str, Callable[[Path], str]] = {
        "within": lambda at: f"kills by itself: {killed_within(at, count or KILLS // 2, chance)}",
        "outside": lambda at: f"killed: {killed_from_outside(at, count or KILLS // 2, chance)}",
        "together": lambda at: f"pairs of equal sweeps: {together(at, count or PAIRS, chance)}",
        "table": lambda at: f"faults without a hang: {table(at)}",
    }
    require_known(wanted, list(parts))
    for name, part in parts.items():
        if name in (wanted or parts):
            say(part(root / name))


def say(line: str) -> None:
    """Print a line with the time of day."""
    print(time.strftime("%H:%M:%S"), line, flush=True)


def killed_within(root: Path, kills: int, chance: random.Random) -> int:
    """One sweep in one process, killed by itself."""
    arguments = write_data(fresh(root / "whole"))
    assert Running(root / "whole", arguments).end().status == 0
    expected, done = kept(root / "whole"), 0
    while done < kills:
        folder = fresh(root / "cut")
        arguments = write_data(folder)
        for _ in range(EACH_RUN):
            # About forty such calls make a run.
            status = Running(folder, arguments, DieAt(chance.randint(1, 40))).end().status
            if status == 0:
                break  # nothing is left to be killed at
            assert status == -signal.SIGKILL, status
            done += 1
        require_equal(folder, arguments, expected)
        say(f"  {done} kills by itself so far, all equal after resume")
    return done


def killed_from_outside(root: Path, kills: int, chance: random.Random) -> Counter[str]:
    """A sweep of two jobs, one of which has a worker: each of these processes in turn."""
    whole = fresh(root / "whole")
    assert end(start(whole)) == 0
    expected, done = kept(whole), Counter[str]()
    while done.total() < kills:
        folder = fresh(root / "cut")
        for _ in range(EACH_RUN):
            sweep = start(folder)
            if (name := kill_one(sweep, chance)) is not None:
                done[name] += 1
            end(sweep)
        assert end(start(folder)) == 0
        assert kept(folder) == expected, folder
        say(f"  {done.total()} kills from outside so far, all equal after resume")
    return done


def start(folder: Path) -> psutil.Popen:
    """A sweep of a job that asks a worker and one of a script, started as a user does."""
    arguments = write_data(folder)[1:]
    (folder / "worker.py").write_text(_WORKER)
    own = [
        "baseline=external,scripted", f"external.worker={folder / 'worker.py'}",
        f"external.python={sys.executable}", "scripted.generate_seconds=0.03",
    ]  # fmt: skip
    with (folder / "said.txt").open("ab") as log:
        return psutil.Popen(
            [sys.executable, "-m", "ovmer", "sweep", "-m", *own, *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=log,
            stderr=log,
        )


def end(sweep: psutil.Popen) -> int:
    """Wait for the end of all its processes; its exit status."""
    try:
        family = sweep.children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    status = sweep.wait(300)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive, f"outlived their sweep: {alive}"
    return int(status)


def kill_one(sweep: psutil.Popen, chance: random.Random) -> str | None:
    """SIGKILL to the sweep or a process below it, at work; returns which, if it still ran."""
    kinds: dict[str, psutil.Process] = {"the sweep": sweep}
    try:
        while len(kinds) < 2 and sweep.poll() is None:  # until a job has begun
            for each in sweep.children(recursive=True):
                command = " ".join(each.cmdline())
                if "worker.py" in command:
                    kinds["a worker"] = each
                elif "forkserver" in command and each.ppid() != sweep.pid:
                    kinds["a job"] = each
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 1.5))
        name = chance.choice(sorted(kinds))
        kinds[name].kill()
    except psutil.NoSuchProcess:
        return None
    return name


def together(root: Path, pairs: int, chance: random.Random) -> int:
    """Two equal sweeps at once: one is done by either, the other is done or refused."""
    arguments = write_data(fresh(root / "whole"))
    assert Running(root / "whole", arguments).end().status == 0
    expected = kept(root / "whole")
    for done in range(1, pairs + 1):
        folder = fresh(root / "pair")
        arguments = write_data(folder)
        first = Running(folder, arguments)
        time.sleep(chance.uniform(0.0, 0.3))
        ends = [each.end() for each in (first, Running(folder, arguments))]
        assert min(each.status for each in ends) == 0, ends
        for each in ends:
            assert each.status == 0 or "another run is writing" in each.said, each
        require_equal(folder, arguments, expected)
        say(f"  {done} pairs so far, all equal")
    return pairs


def table(root: Path) -> int:
    """Each fault in each of its stages."""
    arguments = write_data(fresh(root / "whole"))
    assert Running(root / "whole", arguments).end().status == 0
    expected, rows = kept(root / "whole"), 0
    for fault in FAULTS:
        for stage in fault.stages:
            require_row(fault, stage, expected, fresh(root / "row"))
            rows += 1
            say(f"  {rows} faults so far without a hang")
    return rows


def fresh(folder: Path) -> Path:
    """The folder, emptied."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def require_equal(folder: Path, arguments: list[str], expected: list[dict[str, object]]) -> None:
    """Let the sweep end and compare it with the undisturbed one."""
    ended = Running(folder, arguments).end()
    assert ended.status == 0, ended.said
    assert kept(folder) == expected, folder


if __name__ == "__main__":
    main()
