"""A baseline that is loaded once and describes single clips."""

import tempfile
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from ovmer.adapters.base import AUDIO, SUBTITLE, VIDEO
from ovmer.adapters.media.settings import configure
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.config import settings_from_overrides
from ovmer.runners.describing.pipeline import Pipeline
from ovmer.runners.describing.requests import ClipRequest
from ovmer.runners.folder.records import Prediction
from ovmer.runners.job import Job


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
        adapter = job.adapter
        configure(job.media)
        if adapter.sees_truth:
            raise PrerequisiteError(
                f"{job.label} repeats the true labels, and a single clip has none; use ovmer sweep"
            )
        with ExitStack() as stack:
            if job.is_dry:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                adapter = adapter.miniature(Path(folder))
            stack.callback(adapter.close)
            adapter.load(job.machine)
            self._free = weakref.finalize(self, stack.pop_all().close)
        self._uses = adapter.modalities
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
        return self.ask(video, audio, subtitle).description

    def ask(
        self,
        video: str | Path | None = None,
        audio: str | Path | None = None,
        subtitle: str | None = None,
        frames: Path | None = None,
        name: str | None = None,
    ) -> Prediction:
        """The same with what else is recorded: notes, thinking, tokens, seconds.

        `frames` is a folder to write what the model was shown to, one PNG a frame, in its order;
        `name` replaces the file's.
        """
        paths = existing_paths({VIDEO: video, AUDIO: audio})
        request = _request(paths, subtitle, self._uses, name)
        self._pipeline.frames_folder = frames
        return next(self._pipeline.describe([request]))

    def close(self) -> None:
        """Free the model; done at the latest when nobody holds this any more."""
        self._free()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def existing_paths(clip: Mapping[str, str | Path | None]) -> dict[str, Path]:
    """The files of a clip, which must be there."""
    paths = {kind: Path(file) for kind in (VIDEO, AUDIO) if (file := clip.get(kind)) is not None}
    for kind, path in paths.items():
        if not path.is_file():
            raise PrerequisiteError(f"{kind}: there is no file {path}")
    return paths


def _request(
    paths: Mapping[str, Path], subtitle: str | None, uses: frozenset[str], name: str | None
) -> ClipRequest:
    """The parts of the clip that the adapter uses; the name, and with it the random stream, is
    that of the file, as in a sweep."""
    video, sound = paths.get(VIDEO), paths.get(AUDIO) or paths.get(VIDEO)
    file = video or sound
    return ClipRequest(
        name=name or (file.stem if file else "clip"),
        video=video if VIDEO in uses else None,
        audio=sound if AUDIO in uses else None,
        subtitle=subtitle if SUBTITLE in uses else None,
        truth=(),
        fingerprint={},
    )
