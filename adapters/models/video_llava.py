"""Video-LLaVA as the OV-MER authors ran it, and the checkpoint that transformers converted from it.

Video and subtitle; a clip without a picture is recorded as `missing_modality`. The two are
different models: the conversion dropped the video tower's attention over time (see
baselines/models/video_llava.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, ClassVar, cast

from ovmer.adapters.base import SUBTITLE, VIDEO, Prepared, require_video
from ovmer.adapters.media import Frames, read_frames
from ovmer.adapters.media.sampling import linspace
from ovmer.adapters.mllm import VICUNA_SYSTEM, Mllm, Model
from ovmer.adapters.registry import register
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.tokenizer import LlamaTokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from ovmer.baselines.decoding.answers import Prompt
    from ovmer.baselines.device import Place
    from ovmer.baselines.models.video_llava import Sizes, VideoLlava, VideoLlavaInputs
    from ovmer.baselines.models.video_llava_hf import VideoLlavaHf


@register("video_llava")
@dataclass
class VideoLlavaAdapter(Mllm):
    """The published model. `quirks=paper` mirrors a clip's frames or not, by its random stream:
    upstream's preprocessing flips a coin at inference too."""

    frames: int = 8

    modalities: ClassVar[frozenset[str]] = frozenset({VIDEO, SUBTITLE})

    # Template `llava_v1` (videollava/conversation.py) with the slots as OV-MER's main-video.py
    # joins them: by a blank, which is tokenised as a text of its own.
    _before: ClassVar[str] = f"{VICUNA_SYSTEM} USER: "
    _between: ClassVar[str] = " "
    _after: ClassVar[str] = "\n{question} ASSISTANT:"

    def read_tokenizer(self) -> LlamaTokenizer:
        return LlamaTokenizer(self.parts["llm"] / "tokenizer.model")

    def build(self, place: "Place") -> Model:
        from ovmer.baselines.models.video_llava import VideoLlava

        return VideoLlava.load(self.parts["llm"], self.parts["tower"], place)

    def write_miniature(self, folder: Path, seed: int) -> dict[str, Path]:
        from ovmer.baselines.models.video_llava import write_miniature

        return write_miniature(folder, seed)

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        from ovmer.baselines.models.video_llava import VideoLlavaInputs

        frames = read_frames(require_video(video), lambda count, _: linspace(count, self.frames))
        slots = self.frames * self._sizes.positions
        question, notes = self.ask(
            subtitle,
            self._sizes.prompt_limit(self.generation.max_new_tokens),
            lambda question: slots + sum(map(len, self._texts(question))),
        )
        return Prepared(VideoLlavaInputs(self._texts(question), self._pixels(frames)), notes)

    def embed(self, item: Prepared) -> "Prompt":
        return self.embed_batch([item])[0]

    def embed_batch(self, items: Sequence[Prepared]) -> "list[Prompt]":
        model = cast("VideoLlava | VideoLlavaHf", self._model)
        return list(model.embed_batch([self._maybe_mirrored(item) for item in items]))

    def _maybe_mirrored(self, item: Prepared) -> "VideoLlavaInputs":
        mirrored = self.quirks == "paper" and Random(item.seed).random() < 0.5
        return item.inputs.mirrored() if mirrored else item.inputs

    def _texts(self, question: str) -> list[list[int]]:
        """The token ids before, between and after the frames."""
        encode = self.tokenizer.encode
        between = [encode(self._between)] * (self.frames - 1)
        after = encode(self._after.replace("{question}", question))
        return [[self.tokenizer.bos_id, *encode(self._before)], *between, after]

    def _pixels(self, frames: Frames) -> "Tensor":
        from ovmer.baselines.models.video_llava import preprocess

        return preprocess(frames.pixels, self._sizes.image)

    @cached_property
    def _sizes(self) -> "Sizes":
        sizes = self._read_sizes()
        if self.frames != sizes.frames:
            raise PrerequisiteError(
                f"baseline.frames is {self.frames} but the weights are made for {sizes.frames}"
            )
        return sizes

    def _read_sizes(self) -> "Sizes":
        from ovmer.baselines.models.video_llava import Sizes

        return Sizes.read(self.parts["llm"], self.parts["tower"])


@register("video_llava_hf")
@dataclass
class VideoLlavaHfAdapter(VideoLlavaAdapter):
    """transformers' conversion, asked as its model card does: no system text, frames in one run."""

    known_quirks: ClassVar[tuple[str, ...]] = ("none",)

    _before: ClassVar[str] = "USER: "
    _between: ClassVar[str] = ""

    def read_tokenizer(self) -> LlamaTokenizer:
        return LlamaTokenizer(self.parts["model"] / "tokenizer.model")

    def build(self, place: "Place") -> Model:
        from ovmer.baselines.models.video_llava_hf import VideoLlavaHf

        return VideoLlavaHf.load(self.parts["model"], place)

    def write_miniature(self, folder: Path, seed: int) -> dict[str, Path]:
        from ovmer.baselines.models.video_llava_hf import write_miniature

        return write_miniature(folder, seed)

    def _texts(self, question: str) -> list[list[int]]:
        *before, after = super()._texts(question)
        # Its tokenizer (legacy=false) puts no blank before a text that follows a control token.
        return [*before, after[1:]]

    def _pixels(self, frames: Frames) -> "Tensor":
        from ovmer.baselines.models.video_llava_hf import preprocess

        return preprocess(frames.pixels, self._sizes.image)

    def _read_sizes(self) -> "Sizes":
        from ovmer.baselines.models.video_llava_hf import read_sizes

        return read_sizes(self.parts["model"])
