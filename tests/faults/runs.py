"""A small sweep into which a fault is injected, and what its run folder then holds."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ovmer.runners.folder.run_folder import RunFolder
from tests.faults.table import GOES_ON, SENTENCE, STOPPED, TRACE, Fault
from tests.processes import Started
from tests.runners.conftest import write_tables

CLIPS = [f"clip{number:02}" for number in range(12)]
SECONDS = 30.0
"""That a sweep has to end in, whatever fails."""


@dataclass(frozen=True)
class Ended:
    """A sweep that has ended: its exit status, negative for a signal, and what it said."""

    status: int
    said: str


class Running(Started):
    """`ovmer sweep ARGUMENTS`, started in `folder`; `before` runs in its process first."""

    def __init__(
        self, folder: Path, arguments: list[str], before: Callable[[], None] | None = None
    ):
        super().__init__(["sweep", *arguments], folder, before=before)

    def end(self, seconds: float = SECONDS) -> Ended:
        """Wait for the end; TimeoutExpired where it hangs."""
        out, err = self.communicate(seconds)
        assert self.returncode is not None
        return Ended(self.returncode, out + err)


@dataclass(frozen=True)
class Injected:
    """A fault of the table, to be made in the process of a sweep."""

    fault: Fault
    stage: str

    def __call__(self) -> None:
        self.fault.inject(self.stage)


def write_data(folder: Path) -> list[str]:
    """The settings of a small sweep of one run, whose data set lies in `folder`."""
    root = write_tables(folder / "data", CLIPS)
    return [
        "baseline=scripted", "dataset=ovmerd", f"dataset.root={root}",
        "dataset.check_files=false", "batch_size=1",
    ]  # fmt: skip


def runs_in(folder: Path) -> list[Path]:
    """The run folders that sweeps in `folder` have made."""
    return sorted(path.parent for path in folder.glob("outputs/*/*/run.json"))


def kept(folder: Path) -> list[dict[str, object]]:
    """What each of the runs holds, but for times."""
    return [_kept(run) for run in runs_in(folder)]


def _kept(run: Path) -> dict[str, object]:
    found: dict[str, object] = {
        file.name: file.read_bytes()
        for file in run.iterdir()
        if file.suffix in (".csv", ".npz") or file.name in ("scores.json", "labels.jsonl")
    }
    records = RunFolder(run).read_predictions().values()
    found["words"] = sorted((each.name, each.status, each.description) for each in records)
    # Of a clip that was at work when the process died there is one record all the same.
    found["records"] = (run / "predictions.jsonl").read_bytes().count(b"\n")
    return found


def require_row(
    fault: Fault, stage: str, undisturbed: list[dict[str, object]], folder: Path
) -> None:
    """AssertionError where a promise of the table is not kept."""
    arguments = write_data(folder)
    require_promise(fault, Running(folder, arguments, Injected(fault, stage)).end())
    again = Running(folder, arguments).end()
    assert again.status == 0, again.said
    assert kept(folder) == undisturbed


def require_promise(fault: Fault, ended: Ended) -> None:
    """AssertionError where the row's own promise is not kept."""
    last = ended.said.strip().splitlines()[-1:] or [""]
    if isinstance(fault.promise, signal.Signals):
        assert ended.status == -fault.promise, ended.said
    elif fault.promise == GOES_ON:
        assert ended.status == 0, ended.said
        assert "this file system has no" in ended.said
    elif fault.promise == SENTENCE:
        assert ended.status == 2, ended.said
        assert last[0].endswith("fix this and run again")
        assert "Traceback" not in ended.said
    elif fault.promise == STOPPED:
        assert (ended.status, "Traceback" in ended.said) == (130, False), ended.said
        assert last[0] == "stopped; what was finished is kept, the same command goes on"
    else:
        assert fault.promise == TRACE
        assert ended.status == 1
        assert "injected" in last[0]
