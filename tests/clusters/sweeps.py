"""A sweep that runs while something is done to it, and what it says meanwhile."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from ovmer.runners.folder.run_folder import RunFolder
from tests.runners.conftest import write_tables

REPOSITORY = Path(__file__).parents[2]
PATIENCE = float(os.environ.get("PATIENCE", "1"))
"""Factor of all time limits, for a busy machine."""
CLIPS = [f"clip{number:02}" for number in range(60)]


def require_known(wanted: Sequence[str], known: Sequence[str]) -> None:
    """SystemExit for a name of a case that there is not."""
    if unknown := set(wanted) - set(known):
        raise SystemExit(f"there is no {min(unknown)}; choose from {', '.join(known)}")


def write_data(folder: Path) -> list[str]:
    """A data set of 60 clips with media files of a few bytes; returns its overrides."""
    root = write_tables(folder / "data", CLIPS)
    (root / "video").mkdir(exist_ok=True)
    for name in CLIPS:
        (root / "video" / f"{name}.mp4").write_bytes(name.encode())
    return ["dataset=ovmerd", f"dataset.root={root}", "dataset.audio=[]"]


class Sweep:
    """`ovmer sweep ARGUMENTS`, started; its lines are read as they come."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.outputs = folder / "outputs"
        self.lines = list[str]()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ovmer", "sweep", *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip())

    def wait_for(self, pattern: str, seconds: float = 30.0, after: int = 0) -> float:
        """Seconds until a line holds the pattern; AssertionError after `seconds`.

        The first `after` lines are passed over.
        """
        started, seconds = time.monotonic(), seconds * PATIENCE
        while time.monotonic() - started < seconds:
            if any(re.search(pattern, line) for line in self.lines[after:]):
                return time.monotonic() - started
            time.sleep(0.1)
        raise AssertionError(f"no {pattern!r} within {seconds:g} s:\n" + "\n".join(self.lines))

    def wait_for_clips(self, count: int, seconds: float = 60.0) -> None:
        """Wait until this many clips are described, of all runs together."""
        deadline = time.monotonic() + seconds * PATIENCE
        while sum(map(len, self.words().values())) < count:
            assert time.monotonic() < deadline, "\n".join(self.lines)
            time.sleep(0.1)

    def words(self) -> dict[str, dict[str, str]]:
        """What is described so far, by run and clip."""
        return {
            path.parent.name: {
                each.name: each.description
                for each in RunFolder(path.parent).read_predictions().values()
            }
            for path in self.outputs.glob("*/*/predictions.jsonl")
        }

    def end(self, seconds: float = 400.0) -> int:
        """Wait for the end; returns the exit status."""
        status = self._process.wait(seconds * PATIENCE)
        self._reader.join()
        return status

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it, if it still runs."""
        self._process.kill()
        self.end()


def called(command: Sequence[str]) -> str:
    """The output of a command that must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
