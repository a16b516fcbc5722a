"""LLaMA-VID as the OV-MER authors ran it: one frame a second, looked at with the question in mind.

Video and subtitle; a clip without a picture is recorded as `missing_modality`.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from ovmer.adapters.base import Prepared
from ovmer.adapters.frame_a_second import FrameASecond
from ovmer.adapters.mllm import VICUNA_SYSTEM
from ovmer.adapters.registry import register
from ovmer.baselines.tokenizer import BertTokenizer


@register("llama_vid")
@dataclass
class LlamaVidAdapter(FrameASecond):
    """The published model. The question goes two ways: into the prompt, and to the Q-Former."""

    most_frames: int = 600

    model_class: ClassVar[str] = "ovmer.baselines.models.llama_vid:LlamaVid"

    # `llava_v1` (llamavid/conversation.py), split at the slot; each side is tokenised as a text of
    # its own. The model was trained with a "curious user"; the authors ran it like this.
    template: ClassVar[tuple[str, ...]] = (
        f"{VICUNA_SYSTEM} USER: ",
        "\n{question} ASSISTANT:",
    )

    @cached_property
    def _word_pieces(self) -> BertTokenizer:
        return BertTokenizer(self.parts["bert"] / "vocab.txt")

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        import torch

        from ovmer.baselines.layers.clip_vision import shortest_side_crop
        from ovmer.baselines.models.llama_vid import LONGEST_QUESTION, LlamaVidInputs

        frames = self.look(video)
        positions = self.sizes.positions * len(frames.indices)
        question, notes = self.fit_question(subtitle, positions)
        inputs = LlamaVidInputs(
            texts=self.texts(question),
            question=self._word_pieces.encode(question, LONGEST_QUESTION),
            frames=torch.from_numpy(shortest_side_crop(frames.pixels, self.sizes.image)),
        )
        return Prepared(inputs, notes)
