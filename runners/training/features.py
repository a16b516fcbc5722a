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
from ovmer.runners.training.affectgpt import TrainableAffectGpt
from ovmer.runners.training.examples import Example
from ovmer.runners.training.trainable import Trainable

if TYPE_CHECKING:
    from torch import Tensor


def keep_features(
    trainable: Trainable, examples: Sequence[Sequence[Example]], folder: Path
) -> None:
    """Compute what is missing of all clips, let the training read it, and drop the encoders.

    Raises PrerequisiteError for a model without features.
    """
    if not isinstance(trainable, TrainableAffectGpt):
        raise PrerequisiteError(
            "train.features=cached is for recipe=affectgpt, whose encoders do not depend on the "
            "question; set train.features=live"
        )
    from torch import nn

    cache = _Cache(trainable, folder / ".features")
    todo = [each for dataset in examples for each in dataset if not cache.file(each).exists()]
    if todo:
        with Progress(len(todo), "features") as progress:
            for example in todo:
                cache.make(example)
                progress.add()
    trainable.features = cache.read
    trainable.model.clip, trainable.model.hubert = nn.Identity(), nn.Identity()


class _Cache:
    def __init__(self, trainable: TrainableAffectGpt, folder: Path) -> None:
        self._trainable = trainable
        made_by = [fingerprint(trainable.parts[part]) for part in ("clip", "hubert")]
        made_by += [str(trainable.recipe.frames), *sorted(trainable.template.reads)]
        self._folder = (
            folder / hashlib.blake2b("".join(made_by).encode(), digest_size=8).hexdigest()
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        self._files: dict[str, Path] = {}

    def file(self, example: Example) -> Path:
        name = example.clip.name
        if name not in self._files:
            media = self._trainable.files(example)
            fingerprints = [f"{kind}:{fingerprint(path)}" for kind, path in media.items() if path]
            digest = hashlib.blake2b("".join(fingerprints).encode(), digest_size=12).hexdigest()
            self._files[name] = self._folder / f"{digest}.safetensors"
        return self._files[name]

    def make(self, example: Example) -> None:
        """A clip that cannot be read gets no file; its sample reports the error."""
        from safetensors.torch import save

        from ovmer.baselines.training.affectgpt import TrainingInputs

        trainable = self._trainable
        try:
            media = trainable.media(example)
        except ClipError:
            return
        trainable.model.eval()
        (found,) = trainable.model.encode([TrainingInputs([[]], (), media)])
        half = {kind: each.half().cpu().contiguous() for kind, each in found.items()}
        replace_file(self.file(example), save(half))

    def read(self, example: Example) -> "Mapping[str, Tensor]":
        """The vectors of a clip. Raises ClipError where it could not be read."""
        from safetensors.torch import load_file

        file = self.file(example)
        if not file.exists():
            self._trainable.media(example)  # raises the reason
        found: Mapping[str, Any] = load_file(file)
        return found
