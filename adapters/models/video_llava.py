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

from ovmer.adapters.base import SUBTITLE, VIDEO, Machine, Prepared, require_video
from ovmer.adapters.media import Frames, read_frames
from ovmer.adapters.media.sampling import linspace
from ovmer.adapters.mllm import VICUNA_SYSTEM, Mllm
from ovmer.adapters.registry import register
from ovmer.baselines.errors import PrerequisiteError

if TYPE_CHECKING:
    from torch import Tensor

    from ovmer.baselines.decoding.answers import Prompt
    from ovmer.baselines.models.video_llava import VideoLlava, VideoLlavaInputs, VideoLlavaSizes
    from ovmer.baselines.models.video_llava_hf import VideoLlavaHf


@register("video_llava")
@dataclass
class VideoLlavaAdapter(Mllm):
    """The published model. `bug_compat` mirrors a clip's frames or not, by its random stream:
    upstream's preprocessing flips a coin at inference too."""

    frames: int = 8

    modalities: ClassVar[frozenset[str]] = frozenset({VIDEO, SUBTITLE})
    model_class: ClassVar[str] = "ovmer.baselines.models.video_llava:VideoLlava"

    # Template `llava_v1` (videollava/conversation.py) with the slots as OV-MER's main-video.py
    # joins them: by a blank, which is tokenised as a text of its own.
    _before: ClassVar[str] = f"{VICUNA_SYSTEM} USER: "
    _between: ClassVar[str] = " "

    @property
    def template(self) -> Sequence[str]:  # type: ignore[override]  # a slot for each frame
        between = [self._between] * (self.frames - 1)
        return [self._before, *between, "\n{question} ASSISTANT:"]

    @cached_property
    def sizes(self) -> "VideoLlavaSizes":
        sizes: VideoLlavaSizes = super().sizes
        if self.frames != sizes.frames:
            raise PrerequisiteError(
                f"baseline.frames is {self.frames} but the weights are made for {sizes.frames}"
            )
        return sizes

    def load(self, machine: Machine) -> None:
        _ = self.sizes  # a wrong number of frames is reported before the weights are read
        super().load(machine)

    @property
    def prompt_limit(self) -> int:
        return min(super().prompt_limit, self.sizes.cut_at)

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        from ovmer.baselines.models.video_llava import VideoLlavaInputs

        frames = read_frames(require_video(video), lambda count, _: linspace(count, self.frames))
        question, notes = self.fit_question(subtitle, self.frames * self.sizes.positions)
        return Prepared(VideoLlavaInputs(self.texts(question), self._pixels(frames)), notes)

    def embed(self, item: Prepared) -> "Prompt":
        return self.embed_batch([item])[0]

    def embed_batch(self, items: Sequence[Prepared]) -> "list[Prompt]":
        model = cast("VideoLlava | VideoLlavaHf", self.modules)
        return list(model.embed_batch([self._maybe_mirrored(item) for item in items]))

    def _maybe_mirrored(self, item: Prepared) -> "VideoLlavaInputs":
        mirrored = self.bug_compat and Random(item.seed).random() < 0.5
        return item.inputs.mirrored() if mirrored else item.inputs

    def _pixels(self, frames: Frames) -> "Tensor":
        from ovmer.baselines.models.video_llava import preprocess

        return preprocess(frames.pixels, self.sizes.image)


@register("video_llava_hf")
@dataclass
class VideoLlavaHfAdapter(VideoLlavaAdapter):
    """transformers' conversion, with its model card's prompt: no system text, frames in one run."""

    model_class: ClassVar[str] = "ovmer.baselines.models.video_llava_hf:VideoLlavaHf"
    tokenizer_part: ClassVar[str] = "model"

    _before: ClassVar[str] = "USER: "
    _between: ClassVar[str] = ""

    def texts(self, question: str, template: Sequence[str] | None = None) -> list[list[int]]:
        *before, after = super().texts(question, template)
        # Its tokenizer (legacy=false) puts no blank before a text that follows a control token.
        return [*before, after[1:]]

    def _maybe_mirrored(self, item: Prepared) -> "VideoLlavaInputs":
        return cast("VideoLlavaInputs", item.inputs)  # transformers' processor flips no coin

    def _pixels(self, frames: Frames) -> "Tensor":
        from ovmer.baselines.models.video_llava_hf import preprocess

        return preprocess(frames.pixels, self.sizes.image)
