"""Launchers: describe the clips of a run in this process, or by the workers of a Ray cluster.

    ovmer sweep baseline=video_llava launcher=ray launcher.workers=4

The run folder stays with this process either way: it alone writes records, each as it is done.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ovmer.adapters.registry import near
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.describing.pipeline_settings import PipelineSettings
from ovmer.runners.describing.requests import ClipRequest
from ovmer.runners.describing.speed import Speed
from ovmer.runners.explain import explain
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

    def __init__(self, feed: PipelineSettings) -> None:
        self._feed = feed.with_cores(os.cpu_count() or 1)
        self.speed = Speed()

    def describe(self, requests: Iterable[ClipRequest]) -> Iterator[Prediction]:
        with self._feed.pipeline() as pipeline:
            self.speed = pipeline.speed
            yield from pipeline.describe(requests)


def make_launcher(settings: Mapping[str, Any], feed: PipelineSettings) -> Launcher:
    """The launcher that a file of conf/launcher/ names; PrerequisiteError for a wrong setting."""
    name = str(settings.get("name", "local"))
    if name == "local":
        return LocalLauncher(feed)
    if name != "ray":
        raise PrerequisiteError(f"launcher.name is {name!r}; {near(name, ['local', 'ray'])}")
    from ovmer.runners.describing.ray_workers import RayOptions, RayWorkers

    try:
        options = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RayOptions), settings))
    except OmegaConfBaseException as error:
        raise PrerequisiteError(explain(error, "launcher")) from error
    assert isinstance(options, RayOptions)
    return RayWorkers(feed, options)
