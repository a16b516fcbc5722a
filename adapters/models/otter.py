"""Otter, the LLaMA model for video, as the OV-MER authors ran it.

Video and subtitle; a clip without a picture is recorded as `missing_modality`.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from ovmer.adapters.base import SUBTITLE, VIDEO, Prepared, require_video
from ovmer.adapters.media import read_frames
from ovmer.adapters.media.sampling import whole_steps
from ovmer.adapters.mllm import Mllm
from ovmer.adapters.registry import register
from ovmer.baselines.errors import CheckpointError, PrerequisiteError

if TYPE_CHECKING:
    from ovmer.baselines.device import Place
    from ovmer.baselines.models.otter import Otter, OtterTokenizer, Sizes

# `<image>User: {} GPT:<answer>` (OV-MER's main-video.py), whose tokenizer takes what stands between
# the control tokens as a text of its own.
_BETWEEN = "User: {question} GPT:"


@register("otter")
@dataclass
class OtterAdapter(Mllm):
    """The published model. Of what the authors' code did by accident nothing is known to have
    changed an answer, so there are no quirks to reproduce."""

    frames: int = 16

    modalities: ClassVar[frozenset[str]] = frozenset({VIDEO, SUBTITLE})
    known_quirks: ClassVar[tuple[str, ...]] = ("none",)
    transformers_only: ClassVar[str] = (
        "the video enters between the layers of its language model, not through the prompt"
    )

    @cached_property
    def _sizes(self) -> "Sizes":
        from ovmer.baselines.models.otter import Sizes

        sizes = Sizes.read(self.parts["model"])
        most = sizes.most_frames or self.frames
        if not 1 <= self.frames <= most:
            raise PrerequisiteError(
                f"baseline.frames is {self.frames} but the weights are made for 1 to {most}"
            )
        return sizes

    def read_tokenizer(self) -> "OtterTokenizer":
        from ovmer.baselines.models.otter import OtterTokenizer

        tokenizer = OtterTokenizer(self.parts["tokenizer"] / "tokenizer.model")
        if tokenizer.answer_id >= self._sizes.vocabulary:
            raise CheckpointError(
                f"{self.parts['tokenizer']} has {len(tokenizer)} words, too many for the "
                f"{self._sizes.vocabulary} embeddings of {self.parts['model']}; it must be LLaMA's"
            )
        return tokenizer

    def build(self, place: "Place") -> "Otter":
        from ovmer.baselines.models.otter import Otter

        image_id = cast("OtterTokenizer", self.tokenizer).image_id
        return Otter.load(self.parts["model"], image_id, place)

    def write_miniature(self, folder: Path, seed: int) -> dict[str, Path]:
        from ovmer.baselines.models.otter import write_miniature

        return write_miniature(folder, seed)

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        import torch

        from ovmer.baselines.layers.clip_vision import shortest_side_crop
        from ovmer.baselines.models.otter import OtterInputs

        frames = read_frames(require_video(video), lambda count, _: whole_steps(count, self.frames))
        ids, notes = self._ids(subtitle)
        pixels = shortest_side_crop(frames.pixels, self._sizes.image)
        return Prepared(OtterInputs(ids, torch.from_numpy(pixels)), notes)

    def _ids(self, subtitle: str | None) -> tuple[list[int], tuple[str, ...]]:
        """The ids of the prompt, and a note where the subtitle was cut."""
        tokens = cast("OtterTokenizer", self.tokenizer)

        def prompt(question: str) -> list[int]:
            words = tokens.encode(_BETWEEN.replace("{question}", question))
            return [tokens.bos_id, tokens.image_id, *words, tokens.answer_id]

        limit = self._sizes.context - self.generation.max_new_tokens
        question, notes = self.ask(subtitle, limit, lambda text: len(prompt(text)))
        return prompt(question), notes

    def clean(self, text: str) -> str:
        """Without the quotation marks around it, and one line, as the authors' script leaves it."""
        return super().clean(text.strip().strip('"'))
