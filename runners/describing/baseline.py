"""A baseline that is loaded once and describes single clips."""

import tempfile
import weakref
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from ovmer.adapters.media.settings import configure
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.config import settings_from_overrides
from ovmer.runners.data import Clip
from ovmer.runners.data.own import single_clip
from ovmer.runners.describing import inputs
from ovmer.runners.describing.pipeline import Pipeline
from ovmer.runners.describing.requests import make_request
from ovmer.runners.folder.records import Prediction
from ovmer.runners.job import Job
from ovmer.runners.parts import make, with_parts
from ovmer.runners.progress import said_if_slow


def load(name: str, *settings: str) -> "Baseline":
    """The baseline of that name, loaded; `settings` as the command takes them, `dry_run=true`.

    Raises PrerequisiteError for a wrong setting, and where the model cannot be loaded.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from ovmer.runners.explain import explain

    try:
        return Baseline(Job(settings_from_overrides([f"baseline={name}", *settings])))
    except (HydraException, OmegaConfBaseException) as error:
        raise PrerequisiteError(explain(error)) from error


class Baseline:
    """A loaded baseline that describes single clips; a context manager that frees it."""

    def __init__(self, job: Job) -> None:
        self._job, adapter = job, job.adapter
        configure(job.media)
        inputs.check(job.settings.inputs, adapter.modalities, job.label)
        if adapter.sees_truth:
            raise PrerequisiteError(
                f"{job.label} repeats the true labels, and a single clip has none; use ovmer sweep"
            )
        with ExitStack() as stack:
            if job.is_dry:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                adapter = adapter.miniature(Path(folder))
            stack.callback(adapter.close)
            with said_if_slow(adapter.waits_for):
                adapter.load(job.machine)
            self._free = weakref.finalize(self, stack.pop_all().close)
        self._pipeline = Pipeline(
            adapter, seed=job.settings.seed, batch_size=1, workers=1, strict=True
        )

    def describe(
        self,
        video: str | Path | None = None,
        audio: str | Path | None = None,
        subtitle: str | None = None,
    ) -> str:
        """Describe one clip, with the same words as in a sweep over a file of that name.

        `video` may be an array of face crops (.npy); without `audio` the video's own sound is
        heard, without `subtitle` none is asked about. Raises ClipError where this clip cannot be
        described, PrerequisiteError where there is no such file.
        """
        return self.ask(single_clip(video, audio, subtitle)).description

    def ask(self, clip: Clip, frames: Path | None = None) -> Prediction:
        """The same of any clip, with what else is recorded: notes, thinking, tokens, seconds.

        `frames` is a folder to write what the model was shown to, one PNG a frame, in its order.
        """
        job, settings, uses = self._job, self._job.settings, self._job.adapter.modalities
        make(settings, [clip], uses, job.label)
        clips = with_parts(settings, [clip], uses)
        (clip,) = inputs.give(settings.inputs, clips, settings.seed)
        self._pipeline.frames_folder = frames
        return next(self._pipeline.describe([make_request(job, clip)]))

    def close(self) -> None:
        """Free the model; done at the latest when nobody holds this any more."""
        self._free()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
