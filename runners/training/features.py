"""Encoder outputs computed once: 29 KB a clip in half precision, instead of video and sound.

A file is named by the clip's media and by the encoders, so that a changed file or checkpoint gets
features of its own. They are made clip by clip in evaluation mode: without the noise of the
authors' training, whose HuBERT is in train mode and gets batches normalised as one.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovmer.baselines.checkpoint import fingerprint
from ovmer.baselines.errors import ClipError, PrerequisiteError
from ovmer.runners.disk import replace_file
from ovmer.runners.progress import Progress
from ovmer.runners.training.course import AffectGptCourse, Course
from ovmer.runners.training.lessons import Example

if TYPE_CHECKING:
    from torch import Tensor


def keep_features(course: Course, examples: Sequence[Sequence[Example]], folder: Path) -> None:
    """Compute what is missing of all clips, let the course read it, and drop the encoders.

    Raises PrerequisiteError for a course without features.
    """
    if not isinstance(course, AffectGptCourse):
        raise PrerequisiteError(
            "train.features=cached is for recipe=affectgpt, whose encoders do not depend on the "
            "question; set train.features=live"
        )
    from torch import nn

    cache = _Cache(course, folder / ".features")
    todo = [each for dataset in examples for each in dataset if not cache.file(each).exists()]
    if todo:
        with Progress(len(todo), "features") as progress:
            for example in todo:
                cache.make(example)
                progress.add()
    course.features = cache.read
    course.model.clip, course.model.hubert = nn.Identity(), nn.Identity()


class _Cache:
    def __init__(self, course: AffectGptCourse, folder: Path) -> None:
        self._course = course
        made_by = [fingerprint(course.parts[part]) for part in ("clip", "hubert")]
        made_by += [str(course.recipe.frames), *sorted(course.template.reads)]
        self._folder = (
            folder / hashlib.blake2b("".join(made_by).encode(), digest_size=8).hexdigest()
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        self._files: dict[str, Path] = {}

    def file(self, example: Example) -> Path:
        name = example.clip.name
        if name not in self._files:
            media = self._course.files(example)
            fingerprints = [f"{kind}:{fingerprint(path)}" for kind, path in media.items() if path]
            digest = hashlib.blake2b("".join(fingerprints).encode(), digest_size=12).hexdigest()
            self._files[name] = self._folder / f"{digest}.safetensors"
        return self._files[name]

    def make(self, example: Example) -> None:
        """A clip that cannot be read gets no file; its lesson reports the error."""
        from safetensors.torch import save

        from ovmer.baselines.training.affectgpt import LessonInputs

        course = self._course
        try:
            media = course.media(example)
        except ClipError:
            return
        course.model.eval()
        (found,) = course.model.encode([LessonInputs([[]], (), media)])
        half = {kind: each.half().cpu().contiguous() for kind, each in found.items()}
        replace_file(self.file(example), save(half))

    def read(self, example: Example) -> "Mapping[str, Tensor]":
        """The vectors of a clip. Raises ClipError where it could not be read."""
        from safetensors.torch import load_file

        file = self.file(example)
        if not file.exists():
            self._course.media(example)  # raises the reason
        found: Mapping[str, Any] = load_file(file)
        return found
