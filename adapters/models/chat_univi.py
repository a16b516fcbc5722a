"""Chat-UniVi as the OV-MER authors ran it: one frame a second, merged into a few tokens.

Video and subtitle; a clip without a picture is recorded as `missing_modality`.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ovmer.adapters.base import Prepared
from ovmer.adapters.frame_a_second import FrameASecond
from ovmer.adapters.mllm import VICUNA_SYSTEM
from ovmer.adapters.registry import register
from ovmer.baselines.tokenizer import LlamaTokenizer

if TYPE_CHECKING:
    from ovmer.baselines.decoding.answers import Prompt
    from ovmer.baselines.device import Place
    from ovmer.baselines.models.chat_univi import ChatUniVi, Sizes

# Template `simple` (ChatUniVi/conversation.py), which starts with an exchange of its own. The slots
# of the frames touch, so the video takes a single one.
_BEFORE = VICUNA_SYSTEM + "###Human: Hi!###Assistant: Hi there! How can I help you today?###Human: "
_AFTER = "\n{question}###Assistant:"


@register("chat_univi")
@dataclass
class ChatUniViAdapter(FrameASecond):
    """The published model. Each clip's random stream gives the noise of the merging as well.

    Of what the authors' code did by accident nothing is known to have changed an answer, so there
    are no quirks to reproduce.
    """

    @cached_property
    def _sizes(self) -> "Sizes":
        from ovmer.baselines.models.chat_univi import Sizes

        return Sizes.read(self.parts["llm"], self.parts["tower"])

    def read_tokenizer(self) -> LlamaTokenizer:
        return LlamaTokenizer(self.parts["llm"] / "tokenizer.model")

    def build(self, place: "Place") -> "ChatUniVi":
        from ovmer.baselines.models.chat_univi import ChatUniVi

        return ChatUniVi.load(self.parts["llm"], self.parts["tower"], place)

    def write_miniature(self, folder: Path, seed: int) -> dict[str, Path]:
        from ovmer.baselines.models.chat_univi import write_miniature

        return write_miniature(folder, seed)

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        import torch

        from ovmer.baselines.layers.clip_vision import shortest_side_crop

        frames = self.look(video)
        texts, notes = self._texts(subtitle, len(frames.indices))
        pixels = shortest_side_crop(frames.pixels, self._sizes.image)
        return Prepared((texts, torch.from_numpy(pixels)), notes)

    def _texts(
        self, subtitle: str | None, frames: int
    ) -> tuple[tuple[list[int], list[int]], tuple[str, ...]]:
        """The ids before and after the video, and a note where the subtitle was cut."""
        encode = self.tokenizer.encode
        before = [self.tokenizer.bos_id, *encode(_BEFORE)]
        fixed = len(before) + self._sizes.merging.positions(frames)

        def after(question: str) -> list[int]:
            return encode(_AFTER.replace("{question}", question))

        limit = self._sizes.context - self.generation.max_new_tokens
        question, notes = self.ask(subtitle, limit, lambda text: fixed + len(after(text)))
        return (before, after(question)), notes

    def embed(self, item: Prepared) -> "Prompt":
        from ovmer.baselines.layers.density_peaks import uniform
        from ovmer.baselines.models.chat_univi import ChatUniViInputs

        texts, frames = item.inputs
        return self._model.embed(ChatUniViInputs(texts, frames, uniform(item.seed)))
