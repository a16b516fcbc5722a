"""The worker of a Ray cluster that ray_workers.py drives: one loaded adapter, and its clips."""

import queue
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ovmer.baselines.errors import OvmerError
from ovmer.runners.describing.pipeline_settings import PipelineSettings
from ovmer.runners.describing.requests import ClipRequest
from ovmer.runners.describing.speed import Speed
from ovmer.runners.folder.records import Prediction

STARTED, LOADED = "started", "loaded"


class FileNotOnWorker(Exception):
    """A file that the driver sees and this worker does not: its machine lacks the data set."""

    def __init__(self, machine: str, path: Path) -> None:
        super().__init__(machine, path)
        self.machine, self.path = machine, path


class RayWorker:
    """The actor: one loaded adapter, and the clips sent to it."""

    def __init__(self, settings: PipelineSettings, gpu_share: float = 1.0) -> None:
        """`gpu_share` is the part of a GPU's memory that is this worker's."""
        self._settings = settings
        self._gpu_share = gpu_share
        self._queue: queue.SimpleQueue[ClipRequest | None] = queue.SimpleQueue()
        self._files: dict[str, Sequence[Path]] = {}

    def add(
        self, requests: Sequence[ClipRequest], files: Mapping[str, Sequence[Path]], *, last: bool
    ) -> None:
        """Add clips, and by their names the files of them that the driver sees; after the `last`
        ones for now, batches that are not full are answered too."""
        self._files |= files
        for request in requests:
            self._queue.put(request)
        if last:
            self._queue.put(None)

    def _requests(self) -> Iterator[ClipRequest]:
        """A round; raises FileNotOnWorker at a clip whose files are not on this machine."""
        for request in iter(self._queue.get, None):
            for path in self._files.pop(request.name, ()):
                if not path.exists():
                    raise FileNotOnWorker(socket.gethostname(), path)
            yield request

    def answers(self) -> Iterator[str | Prediction | Speed | OvmerError | FileNotOnWorker]:
        """Messages to the driver: that it started, that it loaded; predictions, and at the end of
        each round (`last`) the speed so far; or the error that ends the run."""
        yield STARTED
        try:
            if self._gpu_share < 1:
                from ovmer.baselines.device import limit_memory

                limit_memory(self._gpu_share)
            with self._settings.loaded() as pipeline:
                yield LOADED
                while True:
                    yield from pipeline.describe(self._requests())
                    yield pipeline.speed
        except (OvmerError, FileNotOnWorker) as error:
            yield error
