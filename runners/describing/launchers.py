"""Launchers: describe the clips of a run in this process, or by the workers of a Ray cluster.

    ovmer sweep baseline=video_llava launcher=ray launcher.workers=4

The run folder stays with this process either way: it alone writes records, each as it is done.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from ovmer.baselines.errors import one_of
from ovmer.runners.describing.pipeline_settings import PipelineSettings
from ovmer.runners.describing.requests import ClipRequest
from ovmer.runners.describing.speed import Speed
from ovmer.runners.explain import to_dataclass
from ovmer.runners.folder.records import Prediction


class Launcher(Protocol):
    """Describes clips somewhere."""

    speed: Speed
    """Of what was described, once it is over."""

    def describe(self, requests: Sequence[ClipRequest]) -> Iterator[Prediction]:
        """One prediction a request, in any order, each as soon as it is done.

        Raises PrerequisiteError if it cannot start or go on; earlier predictions are kept.
        """
        ...


class LocalLauncher:
    """This process."""

    def __init__(self, settings: PipelineSettings) -> None:
        self._settings = settings.with_cores(os.cpu_count() or 1)
        self.speed = Speed()

    def describe(self, requests: Iterable[ClipRequest]) -> Iterator[Prediction]:
        with self._settings.loaded() as pipeline:
            self.speed = pipeline.speed
            yield from pipeline.describe(requests)


def make_launcher(settings: Mapping[str, Any], pipeline: PipelineSettings) -> Launcher:
    """The launcher that a file of conf/launcher/ names; PrerequisiteError for a wrong setting."""
    name = str(settings.get("name", "local"))
    if name == "local":
        return LocalLauncher(pipeline)
    one_of("launcher.name", name, ("local", "ray"))
    from ovmer.runners.describing.ray_workers import RayOptions, RayWorkers

    return RayWorkers(pipeline, to_dataclass(RayOptions, settings, "launcher"))
