"""Otter, the LLaMA model for video, as the OV-MER authors ran it.

Video and subtitle; a clip without a picture is recorded as `missing_modality`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from ovmer.adapters.base import SUBTITLE, VIDEO, Prepared, require_video
from ovmer.adapters.media import read_frames
from ovmer.adapters.media.sampling import whole_steps
from ovmer.adapters.mllm import Mllm
from ovmer.adapters.registry import register
from ovmer.baselines.errors import CheckpointError, PrerequisiteError

if TYPE_CHECKING:
    from ovmer.baselines.models.otter import OtterSizes, OtterTokenizer


@register("otter")
@dataclass
class OtterAdapter(Mllm):
    """The published model."""

    frames: int = 16

    modalities: ClassVar[frozenset[str]] = frozenset({VIDEO, SUBTITLE})
    transformers_only: ClassVar[str] = (
        "the video enters between the layers of its language model, not through the prompt"
    )
    model_class: ClassVar[str] = "ovmer.baselines.models.otter:Otter"

    # `<image>User: {} GPT:<answer>` (OV-MER's main-video.py), whose tokenizer takes the texts
    # between the control tokens as a text of its own.
    template: ClassVar[tuple[str, ...]] = ("User: {question} GPT:",)

    @cached_property
    def sizes(self) -> "OtterSizes":
        sizes: OtterSizes = super().sizes
        most = sizes.most_frames or self.frames
        if not 1 <= self.frames <= most:
            raise PrerequisiteError(
                f"baseline.frames is {self.frames} but the weights are made for 1 to {most}"
            )
        return sizes

    def read_tokenizer(self) -> "OtterTokenizer":
        from ovmer.baselines.models.otter import OtterTokenizer

        tokenizer = OtterTokenizer(self.parts["tokenizer"] / "tokenizer.model")
        if tokenizer.answer_id >= self.sizes.vocabulary:
            raise CheckpointError(
                f"{self.parts['tokenizer']} has {len(tokenizer)} words, too many for the "
                f"{self.sizes.vocabulary} embeddings of {self.parts['model']}; it must be LLaMA's"
            )
        return tokenizer

    @property
    def load_options(self) -> Mapping[str, Any]:
        return {"image_id": cast("OtterTokenizer", self.tokenizer).image_id}

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        import torch

        from ovmer.baselines.layers.clip_vision import shortest_side_crop
        from ovmer.baselines.models.otter import OtterInputs

        frames = read_frames(require_video(video), lambda count, _: whole_steps(count, self.frames))
        question, notes = self.fit_question(subtitle, 0)  # the video takes no positions
        (ids,) = self.texts(question)
        pixels = shortest_side_crop(frames.pixels, self.sizes.image)
        return Prepared(OtterInputs(ids, torch.from_numpy(pixels)), notes)

    def texts(self, question: str, template: Sequence[str] | None = None) -> list[list[int]]:
        """All of the prompt, as the video is no part of it."""
        tokens = cast("OtterTokenizer", self.tokenizer)
        ((start, *words),) = super().texts(question, template)
        return [[start, tokens.image_id, *words, tokens.answer_id]]

    def clean(self, text: str) -> str:
        """Without the quotation marks around it, and one line, as the authors' script leaves it."""
        return super().clean(text.strip().strip('"'))
