"""Models to train: AffectGPT as its authors do, or low-rank adapters in any port."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovmer.adapters.mllm import Mllm
from ovmer.baselines.checkpoint import fingerprint
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.file_names import shortened
from ovmer.runners.job import Job
from ovmer.runners.training.examples import Example
from ovmer.runners.training.settings import Recipe, TrainSettings

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ovmer.baselines.training.lora import Lora
    from ovmer.baselines.training.step import Sample, SpecialTokens

AUDIO, FACE, FRAME = "audio", "face", "frame"
"""Kinds of files that training reads."""
SEED_OF_MINIATURE = 0
_TRAINED = ("trained", "tuned")
"""Parts that `ovmer train` writes."""


class Trainable(ABC):
    """A model to be trained, and how its samples and its files are made."""

    model: Any
    """The modules, once they are built."""

    def __init__(self, settings: TrainSettings, job: Job, folder: Path) -> None:
        """`job` is of the same settings; with dry_run a miniature is written into `folder`."""
        self.settings = settings
        self.recipe: Recipe = settings.train
        self.job = job
        adapter = job.adapter
        if not isinstance(adapter, Mllm):
            name = settings.baseline["name"]
            raise PrerequisiteError(
                f"baseline {name!r} has no language model of its own to be trained; choose a port, "
                "or write the data for ms-swift with train.export=swift"
            )
        if settings.dry_run:
            adapter = adapter.miniature(folder / "miniature", SEED_OF_MINIATURE)
        self.adapter: Mllm = adapter

    @abstractmethod
    def lacks(self, example: Example) -> str:
        """The reason why a clip cannot be learned from; empty if it can."""

    def hears_video(self, example: Example) -> bool:
        """Whether the sound that is read of a clip is its video's track, for want of a file."""
        clip = example.clip
        return clip.audio is not None and clip.audio == clip.video and self.hears

    @property
    @abstractmethod
    def hears(self) -> bool:
        """Whether sound is read."""

    @abstractmethod
    def sample(self, example: Example, kind: str) -> "Sample":
        """One question about a clip with its answer. Raises ClipError."""

    @abstractmethod
    def longest(self, examples: Sequence[Example]) -> int:
        """Tokens of the longest row, prompt and answer, of some clips once the model is built."""

    @abstractmethod
    def build(self, device: "torch.device", llm: "torch.dtype") -> "nn.Module":
        """The model, its frozen language model in the type `llm`; parameters that require a
        gradient are trained."""

    @abstractmethod
    def prompts(self, inputs: Sequence[Any]) -> "Sequence[Tensor]":
        """The prompt embeddings of some clips, once the model is built."""

    @property
    @abstractmethod
    def special_tokens(self) -> "SpecialTokens":
        """The tokens around prompt and answer."""

    @abstractmethod
    def save(self, folder: Path, iteration: int, loss: float) -> None:
        """Write what is trained."""

    @abstractmethod
    def restore(self, folder: Path) -> None:
        """Read what `save` wrote."""

    @abstractmethod
    def trained(self, checkpoint: Path) -> dict[str, Any]:
        """The settings below `baseline` with which a sweep asks a checkpoint that `save` wrote."""

    @property
    @abstractmethod
    def visual(self) -> str:
        """Picture of its samples: face or frame."""

    def baseline(self, checkpoint: Path) -> dict[str, Any]:
        """A file of conf/baseline/ for a checkpoint that `save` wrote, over the baseline's own."""
        name, title = (str(self.settings.baseline.get(key, "")) for key in ("name", "title"))
        own = self.trained(checkpoint)
        trained = own.pop("checkpoint")
        # By run and step, so that sweeps of several have folders of their own.
        run, step = checkpoint.parent.name, f"step{checkpoint.name.rpartition('-')[2]}"
        return {
            "defaults": [name, "_self_"],
            "name": f"{shortened(run, 39 - len(step), whole=run)}-{step}",
            "title": f"{title or name}, {run} at {step}",
            "trained_on": list(self.recipe.mixture) or [self.settings.dataset["name"]],
            **own,
            "checkpoint": self._frozen_settings()
            | {part: {"path": str(path.absolute())} for part, path in trained.items()},
        }

    @cached_property
    def frozen_parts(self) -> dict[str, str]:
        """Fingerprints of the parts that are not trained; checkpoints hold them."""
        known = self.adapter.checkpoint
        return {
            name: fingerprint(path.resolve(), known[name].files if name in known else ())
            for name, path in self.adapter.parts.items()
            if name not in _TRAINED
        }

    @property
    def start(self) -> Path | None:
        """The checkpoint to start from. Raises PrerequisiteError where it does not exist."""
        if self.recipe.start is None:
            return None
        start = Path(self.recipe.start).expanduser()
        if not start.exists():
            raise PrerequisiteError(f"train.start: there is no {start}")
        return start

    def check_start(self, start: Path, recorded: Mapping[str, str]) -> None:
        """Raise PrerequisiteError where `start` was trained beside other frozen parts than these.

        Their shapes may be the same. `recorded` is what it holds of `frozen_parts`.
        """
        here = self.frozen_parts
        others = [name for name in recorded if here.get(name, recorded[name]) != recorded[name]]
        if others:
            raise PrerequisiteError(
                f"train.start: {start} was trained with other files of {', '.join(others)}; set "
                f"baseline.checkpoint.{others[0]} to those, or choose another start"
            )

    @property
    def lora(self) -> "Lora | None":
        """The adapters of the recipe."""
        from ovmer.baselines.training.lora import Lora

        sizes = self.recipe.lora
        if sizes.rank == 0:
            return None
        return Lora(sizes.rank, sizes.alpha, sizes.dropout, tuple(sizes.targets))

    def _frozen_settings(self) -> dict[str, Any]:
        """The parts that are not trained: the miniature's in a dry run, else as they were asked for
        here, so that a sweep adapts the same ones."""
        if self.settings.dry_run:
            own = {n: path for n, path in self.adapter.parts.items() if n != "trained"}
            return {name: {"path": str(path.absolute())} for name, path in own.items()}
        asked = self.settings.baseline.get("checkpoint") or {}
        parts = {name: dict(part) for name, part in asked.items() if name != "trained"}
        for part in parts.values():
            if part.get("path"):
                part["path"] = str(Path(part["path"]).expanduser().absolute())
        return parts


def some(examples: Sequence[Example]) -> Sequence[Example]:
    """A thousand of the examples, evenly."""
    return examples[:: -(-len(examples) // 1000)]
