"""Models to train: AffectGPT as its authors do, or low-rank adapters in any port."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovmer.adapters.affectgpt_prompts import (
    Template,
    question_and_answer,
)
from ovmer.adapters.mllm import Mllm, QuestionTemplate
from ovmer.baselines.checkpoint import locate
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.job import Job
from ovmer.runners.training.affectgpt import AUDIO, FACE, FRAME, encode_texts, read_media
from ovmer.runners.training.lessons import Example
from ovmer.runners.training.settings import Recipe, TrainSettings

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ovmer.baselines.training.lora import Lora
    from ovmer.baselines.training.step import Lesson, SpecialTokens

SEED_OF_MINIATURE = 0


class Course(ABC):
    """A model to be trained, and how its lessons and its files are made."""

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

    @abstractmethod
    def lesson(self, example: Example, kind: str) -> "Lesson":
        """One question about a clip with its answer. Raises ClipError."""

    @abstractmethod
    def build(self, device: "torch.device", llm: "torch.dtype") -> "nn.Module":
        """The model, its frozen language model in the type `llm`; parameters that require a
        gradient are trained."""

    @abstractmethod
    def prompts(self, inputs: Sequence[Any]) -> "Sequence[Tensor]":
        """The prompt embeddings of some clips, once the model is built."""

    @property
    @abstractmethod
    def frame(self) -> "SpecialTokens":
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
        """Picture of its lessons: face or frame."""

    def baseline(self, checkpoint: Path) -> dict[str, Any]:
        """A file of conf/baseline/ for a checkpoint that `save` wrote, over the baseline's own."""
        name, title = (str(self.settings.baseline.get(key, "")) for key in ("name", "title"))
        own = self.trained(checkpoint)
        parts = own.pop("checkpoint") | self._miniature()
        return {
            "defaults": [name, "_self_"],
            "name": f"{name}_trained",
            "title": f"{title or name}, trained on {self.settings.dataset['name']}",
            "trained_on": list(self.recipe.mixture) or [self.settings.dataset["name"]],
            **own,
            "checkpoint": {part: {"path": str(path.absolute())} for part, path in parts.items()},
        }

    @property
    def lora(self) -> "Lora | None":
        """The adapters of the recipe."""
        from ovmer.baselines.training.lora import Lora

        sizes = self.recipe.lora
        if sizes.rank == 0:
            return None
        return Lora(sizes.rank, sizes.alpha, sizes.dropout, tuple(sizes.targets))

    def _miniature(self) -> dict[str, Path]:
        """Paths of the miniature's parts in a dry run."""
        if not self.settings.dry_run:
            return {}
        return {name: path for name, path in self.adapter.parts.items() if name != "trained"}


class AffectGptCourse(Course):
    """AffectGPT: adapters and all connectors, with the authors' templates and questions."""

    def __init__(self, settings: TrainSettings, job: Job, folder: Path) -> None:
        super().__init__(settings, job, folder)
        if settings.baseline["adapter"] != "affectgpt":
            raise PrerequisiteError(
                f"train.step=affectgpt trains baseline=affectgpt, not {settings.baseline['name']}"
            )
        # The trained part is the output of this run: it is neither located nor downloaded.
        parts = {n: part for n, part in self.adapter.checkpoint.items() if n != "trained"}
        weights = settings.weights
        self.adapter = replace(self.adapter, checkpoint=parts)
        self.parts = locate(parts, weights=weights)
        self.adapter.__dict__["parts"] = self.parts
        self.template = Template.of(self.recipe.template)
        self.features: Callable[[Example], Mapping[str, Tensor]] | None = None
        """Cached encoder outputs, instead of media."""

    def files(self, example: Example) -> dict[str, Path | None]:
        """The files that the template reads, by kind."""
        clip = example.clip
        every = {AUDIO: clip.audio, FACE: clip.face, FRAME: clip.video}
        return {kind: every[kind] for kind in (FACE, FRAME, AUDIO) if kind in self.template.reads}

    def lacks(self, example: Example) -> str:
        lost = [kind for kind, path in self.files(example).items() if path is None]
        return f"no {' and no '.join(lost)}" if lost else ""

    def lesson(self, example: Example, kind: str) -> "Lesson":
        from ovmer.baselines.training.affectgpt import LessonInputs
        from ovmer.baselines.training.step import Lesson

        question, answer = question_and_answer(kind, example.values)
        texts, ids = encode_texts(
            self.adapter.tokenizer,
            self.template,
            example.clip.subtitle or "",
            question,
            answer,
            self.recipe.max_length,
            self._tokens,
        )
        if self.features is not None:
            media: Mapping[str, Any] = self.features(example)
        else:
            media = self.media(example)
        inputs = LessonInputs(
            texts, self.template.slots, media, self.template.multi, self.features is not None
        )
        return Lesson(example.clip.name, inputs, ids)

    def media(self, example: Example) -> "dict[str, Tensor]":
        """Read a clip's media. Raises ClipError."""
        files = {kind: path for kind, path in self.files(example).items() if path is not None}
        return read_media(files, self.recipe.frames)

    @property
    def _tokens(self) -> dict[str, int]:
        fusion = self.recipe.fusion
        return {
            "multi": fusion.multi_tokens,
            AUDIO: fusion.audio_tokens,
            FACE: fusion.video_tokens,
            FRAME: fusion.video_tokens,
        }

    def build(self, device: "torch.device", llm: "torch.dtype") -> "nn.Module":
        from ovmer.baselines.training.affectgpt import (
            AffectGptDesign,
            AffectGptInTraining,
            FrozenPrecision,
        )

        design = AffectGptDesign(
            self._fusions,
            self.lora,
            self.recipe.encoders == "train" and self.recipe.features == "live",
            self.recipe.loudness,
        )
        start = None if self.recipe.start is None else Path(self.recipe.start).expanduser()
        self.model = AffectGptInTraining.build(
            self.parts, device, FrozenPrecision(llm), design, start
        )
        return self.model

    @property
    def _fusions(self) -> Any:
        from ovmer.baselines.layers.qformer import QFormerConfig
        from ovmer.baselines.models.affectgpt_fusion import FusionConfig, FusionConfigs

        fusion = self.recipe.fusion
        sizes = QFormerConfig(
            encoder_width=0,
            layers=2,
            cross_attention_every=1,
            width=fusion.qformer_width,
            heads=fusion.qformer_heads,
            ffn=fusion.qformer_ffn,
        )
        return FusionConfigs(
            FusionConfig(fusion.video, fusion.video_tokens, sizes),
            FusionConfig(fusion.audio, fusion.audio_tokens, sizes),
            FusionConfig(fusion.multi, fusion.multi_tokens, sizes),
        )

    def prompts(self, inputs: Sequence[Any]) -> "Sequence[Tensor]":
        return self.model.prompts(inputs)

    @property
    def frame(self) -> "SpecialTokens":
        from ovmer.baselines.training.step import SpecialTokens

        tokenizer: Any = self.adapter.tokenizer
        start = (tokenizer.id_of("<|im_start|>"),) if self.recipe.start_token else ()
        return SpecialTokens(start, tokenizer.eos_id, tokenizer.eos_id)

    def save(self, folder: Path, iteration: int, loss: float) -> None:
        from ovmer.baselines.training.affectgpt import write_checkpoint

        write_checkpoint(self.model, folder, iteration // self.recipe.epoch, loss, self._config)

    @property
    def _config(self) -> dict[str, Any]:
        """The model's settings for the file, by the authors' names."""
        fusion, recipe = self.recipe.fusion, self.recipe
        model = {
            f"{name}_fusion_type": getattr(fusion, name) for name in ("video", "audio", "multi")
        }
        model |= {
            f"num_{name}_query_token": getattr(fusion, f"{name}_tokens")
            for name in ("video", "audio", "multi")
        }
        model |= {"frozen_llm": recipe.lora.rank == 0, "lora_r": recipe.lora.rank}
        model |= {"qformer_heads": fusion.qformer_heads, "max_length": recipe.max_length}
        about = {"face_or_frame": recipe.template, "n_frms": recipe.frames}
        return {"model": model, "datasets": about, "train": asdict(recipe)}

    def restore(self, folder: Path) -> None:
        self.model.restore(next(folder.glob("checkpoint_*.pth")))

    def trained(self, checkpoint: Path) -> dict[str, Any]:
        return {
            "prompted": self.recipe.template,
            "frames": self.recipe.frames,
            "checkpoint": {"trained": next(checkpoint.glob("checkpoint_*.pth"))},
        }

    @property
    def visual(self) -> str:
        return FACE if FACE in self.template.reads else FRAME


class PortCourse(Course):
    """Low-rank adapters in the language model of a port, and its connector if asked for."""

    def __init__(self, settings: TrainSettings, job: Job, folder: Path) -> None:
        super().__init__(settings, job, folder)
        recipe = self.recipe
        if len(recipe.kinds) > 1 and set(recipe.kinds) - recipe.questions.keys():
            raise PrerequisiteError(
                "several train.kinds need a question each: "
                "'+train.questions.KIND=\"... {subtitle} ...\"'"
            )
        self._asking = {kind: self._adapter_for(kind) for kind in recipe.kinds}

    def _adapter_for(self, kind: str) -> Mllm:
        question = self.recipe.questions.get(kind)
        if question is None:
            return self.adapter
        return replace(
            self.adapter, prompt=QuestionTemplate(question, question.replace("{subtitle}", ""))
        )

    def lacks(self, example: Example) -> str:
        clip, wanted = example.clip, self.adapter.modalities
        picture = clip.face if self.settings.dataset.get("visual") == "face" else clip.video
        having = {"video": picture, "audio": clip.audio}
        asked = [kind for kind in having if kind in wanted]
        lost = [kind for kind in asked if having[kind] is None]
        return f"no {' and no '.join(lost)}" if lost and len(lost) == len(asked) else ""

    def lesson(self, example: Example, kind: str) -> "Lesson":
        from ovmer.baselines.training.step import Lesson

        clip, wanted = example.clip, self.adapter.modalities
        picture = clip.face if self.settings.dataset.get("visual") == "face" else clip.video
        item = self._asking[kind].prepare(
            picture if "video" in wanted else None,
            clip.audio if "audio" in wanted else None,
            clip.subtitle if self.job.uses_subtitle else None,
        )
        _, answer = question_and_answer(kind, example.values)
        return Lesson(clip.name, item.inputs, self.adapter.tokenizer.encode(answer))

    def build(self, device: "torch.device", llm: "torch.dtype") -> "nn.Module":
        from ovmer.baselines.device import Placement
        from ovmer.baselines.training.lora import attach, restore

        built: Any = self.adapter.build(Placement(device, llm))
        self.model, self._device = built, device
        for name in self.recipe.connectors:
            part = dict(self.model.named_children()).get(name)
            if part is None or name == "llm":
                known = [n for n, _ in self.model.named_children() if n != "llm"]
                raise PrerequisiteError(
                    f"train.connectors: {type(self.model).__name__} has no module {name!r}; it has "
                    f"{', '.join(known)}"
                )
            part.float().requires_grad_(True)
        if self.lora is not None:
            attach(self.model.llm, self.lora)
        if self.recipe.start is not None:
            restore(self.model, Path(self.recipe.start).expanduser())
        module: nn.Module = built
        return module

    def prompts(self, inputs: Sequence[Any]) -> "Sequence[Tensor]":
        from torch import Tensor

        from ovmer.baselines.transfer import to_device

        found = []
        for each in inputs:
            prompt = self.model.embed(to_device(each, self._device))
            if not isinstance(prompt, Tensor):
                raise PrerequisiteError(
                    f"{type(self.model).__name__} takes what it sees and hears inside its language "
                    "model, which train.step=port cannot train; choose another port"
                )
            found.append(prompt)
        return found

    @property
    def frame(self) -> "SpecialTokens":
        from ovmer.baselines.training.step import SpecialTokens

        end = self.adapter.tokenizer.eos_id
        return SpecialTokens((), end, end)

    def save(self, folder: Path, iteration: int, loss: float) -> None:
        from ovmer.baselines.training.lora import save

        save(self.model, self.lora, folder)

    def restore(self, folder: Path) -> None:
        from ovmer.baselines.training.lora import restore

        restore(self.model, folder)

    def trained(self, checkpoint: Path) -> dict[str, Any]:
        return {"checkpoint": {"tuned": checkpoint}}

    @property
    def visual(self) -> str:
        return str(self.settings.dataset.get("visual", FRAME))


def make_course(settings: TrainSettings, job: Job, folder: Path) -> Course:
    """The course of a recipe. Raises PrerequisiteError where its baseline cannot be trained so."""
    kind = AffectGptCourse if settings.train.step == "affectgpt" else PortCourse
    return kind(settings, job, folder)
