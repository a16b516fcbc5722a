"""LLaMA-VID as the OV-MER authors ran it: one frame a second, looked at with the question in mind.

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
from ovmer.baselines.checkpoint import file_of
from ovmer.baselines.tokenizer import BertTokenizer, LlamaTokenizer

if TYPE_CHECKING:
    from ovmer.baselines.device import Place
    from ovmer.baselines.models.llama_vid import LlamaVid, Sizes

# Template `llava_v1` (llamavid/conversation.py), split at the slot; each side is tokenised as a
# text of its own. The model was trained with a "curious user"; the authors ran it like this.
_BEFORE = f"{VICUNA_SYSTEM} USER: "
_AFTER = "\n{question} ASSISTANT:"


@register("llama_vid")
@dataclass
class LlamaVidAdapter(FrameASecond):
    """The published model. The question goes two ways: into the prompt, and to the Q-Former.

    Of what the authors' code did by accident nothing is known to have changed an answer, so there
    are no quirks to reproduce.
    """

    most_frames: int = 600

    @cached_property
    def _vision(self) -> Path:
        from ovmer.baselines.layers.eva_vit import EVA_FILE

        return file_of(self.parts["vision"], EVA_FILE)

    @cached_property
    def _sizes(self) -> "Sizes":
        from ovmer.baselines.models.llama_vid import Sizes

        return Sizes.read(self.parts["llm"], self._vision)

    @cached_property
    def _word_pieces(self) -> BertTokenizer:
        return BertTokenizer(self.parts["bert"] / "vocab.txt")

    def read_tokenizer(self) -> LlamaTokenizer:
        return LlamaTokenizer(self.parts["llm"] / "tokenizer.model")

    def build(self, place: "Place") -> "LlamaVid":
        from ovmer.baselines.models.llama_vid import LlamaVid

        return LlamaVid.load(self.parts["llm"], self._vision, self.parts["bert"], place)

    def write_miniature(self, folder: Path, seed: int) -> dict[str, Path]:
        from ovmer.baselines.models.llama_vid import write_miniature

        return write_miniature(folder, seed)

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        import torch

        from ovmer.baselines.layers.clip_vision import shortest_side_crop
        from ovmer.baselines.models.llama_vid import LONGEST_QUESTION, POSITIONS, LlamaVidInputs

        frames = self.look(video)
        encode = self.tokenizer.encode
        before = [self.tokenizer.bos_id, *encode(_BEFORE)]
        fixed = len(before) + POSITIONS * len(frames.indices)

        def after(question: str) -> list[int]:
            return encode(_AFTER.replace("{question}", question))

        limit = self._sizes.context - self.generation.max_new_tokens
        question, notes = self.ask(subtitle, limit, lambda text: fixed + len(after(text)))
        inputs = LlamaVidInputs(
            texts=(before, after(question)),
            question=self._word_pieces.encode(question, LONGEST_QUESTION),
            frames=torch.from_numpy(shortest_side_crop(frames.pixels, self._sizes.image)),
        )
        return Prepared(inputs, notes)
