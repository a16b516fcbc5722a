"""`ovmer` in processes of its own that are forked from one which has imported what it needs.

A new process takes one second of the processor to import what a sweep needs, and seven where a
model is loaded. Only tests of the imports themselves start a new one.
"""

import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

from ovmer.runners.commands import main
from ovmer.runners.sweeping.jobs import MODEL_MODULES
from tests import ROOT

_SHARED = (
    __name__,
    "pytest",
    "hydra._internal.hydra",
    "hydra._internal.core_plugins.basic_launcher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher",
    "ovmer.adapters.scripted",
    "ovmer.runners.commands.sweep",
    "ovmer.runners.scoring.wheel",
    "ovmer.runners.sweeping.jobs",
    "scipy.special",
)


def forks() -> ForkServerContext:
    """The context in which a process is forked from one that has imported what is shared.

    Where the tests at hand have torch, the model modules as well: `make quick` loads no model.
    """
    context = multiprocessing.get_context("forkserver")
    models = MODEL_MODULES if "torch" in sys.modules else ()
    context.set_forkserver_preload([*_SHARED, *models])
    return context


class Started:
    """`ovmer ARGUMENTS`, started in `folder`; what one does with a subprocess.Popen."""

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        path: Sequence[Path] = (),
        environment: Mapping[str, str] | None = None,
        before: Callable[[], object] | None = None,
        program: Callable[[], object] = main,
    ) -> None:
        """`path` goes before the search path for modules; `before` runs in the process first, and
        `program` stands in for the command."""
        self.arguments = list(arguments)
        self._folder = tempfile.TemporaryDirectory()
        self._streams = [Path(self._folder.name, name) for name in ("out", "err")]
        self._ended: tuple[str, str] | None = None
        found = os.pathsep.join(map(str, [*path, ROOT]))
        variables = {**os.environ, **(environment or {}), "PYTHONPATH": found}
        self._process = forks().Process(
            target=_run, args=(self.arguments, folder, variables, self._streams, before, program)
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    @property
    def said(self) -> str:
        """What it has said so far, on stdout and then on stderr."""
        return "".join(self._ended or self._read("replace"))

    def _read(self, errors: str = "strict") -> tuple[str, str]:
        out, err = (
            each.read_text("utf-8", errors) if each.exists() else "" for each in self._streams
        )
        return out, err

    def wait_for(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """AssertionError where it ends, or so much time passes, before the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.01)

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """What it said on both streams by its end; TimeoutExpired where it hangs."""
        self._process.join(timeout)
        self._ended = self._read()
        self._folder.cleanup()
        if self.returncode is None:
            self.kill()
            raise TimeoutExpired(self.arguments, timeout, *self._ended)
        return self._ended


def run(
    arguments: Sequence[str],
    folder: Path,
    path: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
    before: Callable[[], object] | None = None,
    program: Callable[[], object] = main,
) -> CompletedProcess[str]:
    """The same to its end."""
    started = Started(arguments, folder, path, environment, before, program)
    out, err = started.communicate()
    assert started.returncode is not None
    return CompletedProcess(started.arguments, started.returncode, out, err)


def _run(
    arguments: list[str],
    folder: Path,
    environment: dict[str, str],
    streams: list[Path],
    before: Callable[[], object] | None,
    program: Callable[[], object],
) -> None:
    for number, stream in enumerate(streams, 1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [str(folder), *environment["PYTHONPATH"].split(os.pathsep)]
    importlib.invalidate_caches()
    sys.argv = ["ovmer", *arguments]
    if before is not None:
        before()
    program()
