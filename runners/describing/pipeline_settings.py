"""Settings of a pipeline, in a form that can be sent to another process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from ovmer.adapters.base import Adapter, Machine
from ovmer.adapters.media.settings import MediaSettings, configure
from ovmer.runners.describing.pipeline import Pipeline
from ovmer.runners.job import Job
from ovmer.runners.progress import said_if_slow


@dataclass(frozen=True)
class PipelineSettings:
    """Adapter and settings of a pipeline; nothing in it is loaded, so it can be sent to workers."""

    adapter: Adapter
    machine: Machine
    seed: int
    batch_size: int
    batch_tokens: int
    workers: int
    """Threads that decode; 0: one for each core."""
    strict: bool
    media: MediaSettings = field(default_factory=MediaSettings)

    @classmethod
    def of(cls, job: Job, adapter: Adapter) -> "PipelineSettings":
        settings = job.settings
        return cls(
            adapter,
            job.machine,
            settings.seed,
            settings.batch_size,
            settings.batch_tokens,
            settings.workers,
            strict=settings.on_error == "raise",
            media=job.media,
        )

    def with_cores(self, cores: int) -> "PipelineSettings":
        """The settings for a process with `cores` cores."""
        return replace(self, workers=self.workers or cores)

    @property
    def most_unanswered(self) -> int:
        """See `Pipeline.most_unanswered`."""
        return self._pipeline.most_unanswered

    @property
    def _pipeline(self) -> Pipeline:
        return Pipeline(
            self.adapter,
            seed=self.seed,
            batch_size=self.batch_size,
            batch_tokens=self.batch_tokens,
            workers=self.workers,
            strict=self.strict,
        )

    @contextmanager
    def loaded(self) -> Iterator[Pipeline]:
        """The pipeline with its adapter loaded, which is closed at the end."""
        configure(self.media)
        try:
            with said_if_slow(self.adapter.waits_for):
                self.adapter.load(self.machine)
            yield self._pipeline
        finally:
            self.adapter.close()
