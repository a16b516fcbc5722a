"""mPLUG-Owl, the model for video, as the OV-MER authors ran it.

Video and subtitle; a clip without a picture is recorded as `missing_modality`.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ovmer.adapters.base import SUBTITLE, VIDEO, Prepared, require_video
from ovmer.adapters.media import read_frames
from ovmer.adapters.media.sampling import segment_offsets
from ovmer.adapters.mllm import Mllm
from ovmer.adapters.registry import register
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.tokenizer import LlamaTokenizer

if TYPE_CHECKING:
    from ovmer.baselines.device import Place
    from ovmer.baselines.models.mplug_owl import MplugOwl, Sizes

# OV-MER's main-video.py. The indentation is that of their Python code, inside a text of several
# lines. Upstream's tokenizer takes what stands before and after `<|video|>` as texts of their own.
_BEFORE = (
    "The following is a conversation between a curious human and AI assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions.\n"
    "            Human: "
)
_AFTER = "\n            Human: {question}\n            AI: "

# `quirks=paper`: `max_length` in OV-MER's main-video.py. With the transformers of their environment
# (4.49) it counts the prompt too.
_PAPER_MAX_LENGTH = 512
_PAPER_FAILS = (
    "as in the authors' run the answer is empty, for their code fails on prompts of "
    f"{_PAPER_MAX_LENGTH} tokens and more"
)


@register("mplug_owl")
@dataclass
class MplugOwlAdapter(Mllm):
    """The published model. `quirks=paper`: prompt and answer share 512 tokens, and the answer is
    empty where none are left."""

    frames: int = 4

    modalities: ClassVar[frozenset[str]] = frozenset({VIDEO, SUBTITLE})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames < 2:
            raise PrerequisiteError(
                f"baseline.frames is {self.frames} but this model's layers over time take 2 or more"
            )
        if self.quirks == "paper":
            self.generation = replace(self.generation, max_length=_PAPER_MAX_LENGTH)

    @cached_property
    def _sizes(self) -> "Sizes":
        from ovmer.baselines.models.mplug_owl import Sizes

        return Sizes.read(self.parts["model"])

    def read_tokenizer(self) -> LlamaTokenizer:
        return LlamaTokenizer(self.parts["model"] / "tokenizer.model")

    def build(self, place: "Place") -> "MplugOwl":
        from ovmer.baselines.models.mplug_owl import MplugOwl

        return MplugOwl.load(self.parts["model"], place)

    def write_miniature(self, folder: Path, seed: int) -> dict[str, Path]:
        from ovmer.baselines.models.mplug_owl import write_miniature

        return write_miniature(folder, seed)

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        import torch

        from ovmer.baselines.models.mplug_owl import IMAGE, MplugOwlInputs

        frames = read_frames(
            require_video(video),
            lambda count, _: segment_offsets(count, self.frames),
            size=(IMAGE, IMAGE),
        )
        texts, notes = self._texts(subtitle)
        return Prepared(MplugOwlInputs(texts, torch.from_numpy(frames.pixels)), notes)

    def _texts(self, subtitle: str | None) -> tuple[tuple[list[int], list[int]], tuple[str, ...]]:
        """The ids before and after the video, and notes on what a long subtitle leads to."""
        encode = self.tokenizer.encode
        before = [self.tokenizer.bos_id, *encode(_BEFORE)]

        def after(question: str) -> list[int]:
            return encode(_AFTER.replace("{question}", question))

        fixed = len(before) + self._sizes.positions
        limit = self._sizes.context - self.generation.max_new_tokens
        question, notes = self.ask(subtitle, limit, lambda text: fixed + len(after(text)))
        texts = before, after(question)
        if self.quirks == "paper" and fixed + len(texts[1]) >= _PAPER_MAX_LENGTH:
            notes += (_PAPER_FAILS,)
        return texts, notes
