"""Chat-UniVi as the OV-MER authors ran it: one frame a second, merged into a few tokens.

Video and subtitle; a clip without a picture is recorded as `missing_modality`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ovmer.adapters.base import Prepared
from ovmer.adapters.frame_a_second import FrameASecond
from ovmer.adapters.mllm import VICUNA_SYSTEM
from ovmer.adapters.registry import register

if TYPE_CHECKING:
    from ovmer.baselines.decoding.answers import Prompt


@register("chat_univi")
@dataclass
class ChatUniViAdapter(FrameASecond):
    """The published model. Each clip's random stream gives the noise of the merging as well."""

    model_class: ClassVar[str] = "ovmer.baselines.models.chat_univi:ChatUniVi"

    # `simple` (ChatUniVi/conversation.py), which starts with an exchange of its own. The slots of
    # the frames touch, so the video takes a single one.
    template: ClassVar[tuple[str, ...]] = (
        f"{VICUNA_SYSTEM}###Human: Hi!###Assistant: Hi there! How can I help you today?###Human: ",
        "\n{question}###Assistant:",
    )

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        import torch

        from ovmer.baselines.layers.clip_vision import shortest_side_crop

        frames = self.look(video)
        positions = self.sizes.merging.positions(len(frames.indices))
        question, notes = self.fit_question(subtitle, positions)
        pixels = torch.from_numpy(shortest_side_crop(frames.pixels, self.sizes.image))
        return Prepared((self.texts(question), pixels), notes)

    def embed(self, item: Prepared) -> "Prompt":
        from ovmer.baselines.layers.density_peaks import uniform
        from ovmer.baselines.models.chat_univi import ChatUniViInputs

        texts, frames = item.inputs
        return self.modules.embed(ChatUniViInputs(texts, frames, uniform(item.seed)))
