"""Where the clips of one run are described: in this process, or by the workers of a Ray cluster.

    python -m runners.sweep baseline=video_llava launcher=ray launcher.workers=4

The run folder stays with this process either way: it alone writes records, each as it is done.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from adapters.base import Adapter, Machine
from adapters.registry import near
from baselines.errors import PrerequisiteError
from runners.explain import explain
from runners.job import Job
from runners.pipeline import Pipeline, Request
from runners.records import Prediction
from runners.speed import Speed


@dataclass(frozen=True)
class Feed:
    """All that a pipeline is made of; it travels to workers, so nothing in it is loaded."""

    adapter: Adapter
    machine: Machine
    seed: int
    batch_size: int
    batch_tokens: int
    workers: int
    """Threads that decode; 0: one for each core."""
    strict: bool

    @classmethod
    def of(cls, job: Job, adapter: Adapter) -> "Feed":
        settings = job.settings
        return cls(
            adapter,
            job.machine,
            settings.seed,
            settings.batch_size,
            settings.batch_tokens,
            settings.workers,
            strict=settings.on_error == "raise",
        )

    def with_cores(self, cores: int) -> "Feed":
        """The feed for a process that has so many cores."""
        return replace(self, workers=self.workers or cores)

    @contextmanager
    def pipeline(self) -> Iterator[Pipeline]:
        """The adapter, loaded; closed at the end."""
        try:
            self.adapter.load(self.machine)
            yield Pipeline(
                self.adapter,
                seed=self.seed,
                batch_size=self.batch_size,
                batch_tokens=self.batch_tokens,
                workers=self.workers,
                strict=self.strict,
            )
        finally:
            self.adapter.close()


class Launcher(Protocol):
    """Describes clips somewhere."""

    speed: Speed
    """Of what was described, once it is over."""

    def describe(self, requests: Sequence[Request]) -> Iterator[Prediction]:
        """One prediction a request, in any order, each as soon as it is done.

        Raises PrerequisiteError where it cannot start or go on; what was yielded before stands.
        """
        ...


class Here:
    """This process."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed.with_cores(os.cpu_count() or 1)
        self.speed = Speed()

    def describe(self, requests: Iterable[Request]) -> Iterator[Prediction]:
        with self._feed.pipeline() as pipeline:
            self.speed = pipeline.speed
            yield from pipeline.describe(requests)


@dataclass
class RayOptions:
    """The keys of conf/launcher/ray.yaml."""

    name: str = "ray"
    address: str = "local"
    workers: int = 0
    gpus: float | None = None
    cpus: int = 0
    memory_gb: float = 0.0
    timeout: float = 120.0


def make_launcher(settings: Mapping[str, Any], feed: Feed) -> Launcher:
    """The launcher that a file of conf/launcher/ names; PrerequisiteError for a wrong setting."""
    name = str(settings.get("name", "local"))
    if name == "local":
        return Here(feed)
    if name != "ray":
        raise PrerequisiteError(f"launcher.name is {name!r}; {near(name, ['local', 'ray'])}")
    from runners.ray_workers import RayWorkers

    try:
        options = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RayOptions), settings))
    except OmegaConfBaseException as error:
        raise PrerequisiteError(explain(error, "launcher")) from error
    assert isinstance(options, RayOptions)
    return RayWorkers(feed, options)
