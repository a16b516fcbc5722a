"""AffectGPT in training: the files of a clip, question and answer as ids, what is trained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovmer.adapters.affectgpt_prompts import END_OF_ANSWER, Template, question_and_answer
from ovmer.baselines.checkpoint import locate
from ovmer.baselines.errors import PrerequisiteError, Unreadable
from ovmer.baselines.tokenizer import Tokenizer
from ovmer.runners.job import Job
from ovmer.runners.training.examples import Example
from ovmer.runners.training.settings import TrainSettings
from ovmer.runners.training.trainable import AUDIO, FACE, FRAME, Trainable, some

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ovmer.baselines.training.step import Sample, SpecialTokens


def encode_texts(
    tokenizer: Tokenizer,
    template: Template,
    subtitle: str,
    question: str,
    answer: str,
    longest: int,
    tokens: Mapping[str, int],
) -> tuple[list[list[int]], list[int]]:
    """The ids around the slots of the prompt, and those of the answer with its end mark.

    `tokens` says how many positions each kind of slot takes (one, where it is not named). Raises
    Unreadable where prompt and answer together are longer than `longest` tokens: upstream cuts each
    to that length and then refuses the sum, so in effect nothing is ever cut.
    """
    texts = [tokenizer.encode(text) for text in template.filled(subtitle, question)]
    ids = tokenizer.encode(answer + END_OF_ANSWER)
    slots = sum(tokens.get(slot, 1) for slot in template.slots)
    length = sum(map(len, texts)) + slots + len(ids)
    if length > longest:
        raise Unreadable(
            f"question and answer have {length} tokens and train.max_length is {longest}"
        )
    return texts, ids


def read_media(paths: Mapping[str, Path], frames: int = 8) -> "dict[str, Tensor]":
    """Read a clip's media from its files, by kind (face, frame, audio).

    `frames` x 224 x 224 x 3 (uint8) of pictures: frames in RGB, faces as they are stored, blue
    first, as at inference. 8 x 32000 of sound: stretches of two seconds, each less its mean.
    """
    import numpy as np
    import torch

    from ovmer.adapters.media import read_frames
    from ovmer.adapters.models.affectgpt import listen, look_at
    from ovmer.baselines.models.affectgpt import centre
    from ovmer.baselines.models.affectgpt_encoders import SIDE

    found = {}
    for kind, path in paths.items():
        if kind == AUDIO:
            found[kind] = centre(torch.from_numpy(listen(path)))
            continue
        pixels = read_frames(path, partial(look_at, frames=frames), size=(SIDE, SIDE)).pixels
        flipped = np.ascontiguousarray(pixels[..., ::-1]) if kind == FACE else pixels
        found[kind] = torch.from_numpy(flipped)
    return found


class TrainableAffectGpt(Trainable):
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
        self.parts = locate(parts, weights=weights, baseline=settings.baseline["name"])
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
        words = {FRAME: "video"}
        lost = [words.get(k, k) for k, path in self.files(example).items() if path is None]
        return f"no {' and no '.join(lost)}" if lost else ""

    @property
    def hears(self) -> bool:
        return AUDIO in self.template.reads

    def sample(self, example: Example, kind: str) -> "Sample":
        from ovmer.baselines.training.affectgpt import TrainingInputs
        from ovmer.baselines.training.step import Sample

        texts, ids = self._encoded(example, kind)
        if self.features is not None:
            media: Mapping[str, Any] = self.features(example)
        else:
            media = self.media(example)
        inputs = TrainingInputs(
            texts, self.template.slots, media, self.template.multi, self.features is not None
        )
        return Sample(example.clip.name, inputs, ids)

    def longest(self, examples: Sequence[Example]) -> int:
        return max(
            self._length(each, kind) for each in some(examples) for kind in self.recipe.kinds
        )

    def _length(self, example: Example, kind: str) -> int:
        try:
            texts, ids = self._encoded(example, kind)
        except Unreadable:  # too long, and so replaced
            return 0
        return (
            sum(map(len, texts))
            + sum(map(self._tokens.__getitem__, self.template.slots))
            + len(ids)
        )

    def _encoded(self, example: Example, kind: str) -> tuple[list[list[int]], list[int]]:
        question, answer = question_and_answer(kind, example.values)
        return encode_texts(
            self.adapter.tokenizer,
            self.template,
            example.clip.subtitle or "",
            question,
            answer,
            self.recipe.max_length,
            self._tokens,
        )

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
        from ovmer.baselines.models.affectgpt import described
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
        start = self.start
        if start is not None:
            self.check_start(start, described(start, "parts"))
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
    def special_tokens(self) -> "SpecialTokens":
        from ovmer.baselines.training.step import SpecialTokens

        tokenizer: Any = self.adapter.tokenizer
        # Upstream gives Qwen, whose texts begin with no token, this one.
        qwen = self.model.llm.config.model_type == "qwen2"
        first = tokenizer.id_of("<|im_start|>") if qwen else tokenizer.bos_id
        start = (first,) if self.recipe.start_token else ()
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
        return {
            "model": model,
            "datasets": about,
            "train": asdict(recipe),
            "parts": self.frozen_parts,
        }

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
