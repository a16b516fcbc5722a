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
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

from ovmer.runners.commands import main
from ovmer.runners.sweeping.jobs import MODEL_MODULES

ROOT = Path(__file__).parents[1]

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
        self._said = tempfile.TemporaryDirectory()
        found = os.pathsep.join(map(str, [*path, ROOT]))
        variables = {**os.environ, **(environment or {}), "PYTHONPATH": found}
        streams = [Path(self._said.name, name) for name in ("out", "err")]
        self._process = forks().Process(
            target=_run, args=(self.arguments, folder, variables, streams, before, program)
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

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """What it said on both streams by its end; TimeoutExpired where it hangs."""
        self._process.join(timeout)
        out, err = (Path(self._said.name, name).read_text("utf-8") for name in ("out", "err"))
        self._said.cleanup()
        if self.returncode is None:
            self.kill()
            raise TimeoutExpired(self.arguments, timeout, out, err)
        return out, err


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
