"""VideoChat as the OV-MER authors ran it: 8 frames, the times at which they were taken, a subtitle.

A clip without a picture is recorded as `missing_modality`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ovmer.adapters.base import SUBTITLE, VIDEO, Prepared, require_video
from ovmer.adapters.media import read_frames
from ovmer.adapters.media.sampling import segment_offsets
from ovmer.adapters.mllm import Mllm, Model
from ovmer.adapters.registry import register
from ovmer.baselines.checkpoint import file_of
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.tokenizer import LlamaTokenizer

if TYPE_CHECKING:
    from ovmer.baselines.decoding.answers import Generated
    from ovmer.baselines.device import Place
    from ovmer.baselines.models.videochat import Sizes


_END = "</s>"


@register("videochat")
@dataclass
class VideoChatAdapter(Mllm):
    """The published model. `quirks=paper` spells out the end token of an answer that has one, as
    the authors' code leaves it in the text."""

    frames: int = 8

    modalities: ClassVar[frozenset[str]] = frozenset({VIDEO, SUBTITLE})

    # `conversation.py` of the authors' demo, with an empty system text, split at the video; each
    # side is tokenised as a text of its own.
    before: ClassVar[str] = "###Human: <Video>"
    after: ClassVar[str] = "</Video> {times}\n###Human: {question}\n###Assistant:"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames < 1:
            raise PrerequisiteError("baseline.frames must be at least 1")

    @cached_property
    def _files(self) -> tuple[Path, Path, Path, Path]:
        """Where the four parts are: three files and the folder of the language model."""
        from ovmer.baselines.layers.eva_vit import EVA_FILE
        from ovmer.baselines.layers.qformer import BLIP2_FILE
        from ovmer.baselines.models.videochat import TRAINED_FILE

        parts = self.parts
        return (
            file_of(parts["vision"], EVA_FILE),
            file_of(parts["qformer"], BLIP2_FILE),
            file_of(parts["trained"], TRAINED_FILE),
            parts["llm"],
        )

    @cached_property
    def _sizes(self) -> "Sizes":
        from ovmer.baselines.models.videochat import Sizes

        return Sizes.read(*self._files)

    def read_tokenizer(self) -> LlamaTokenizer:
        return LlamaTokenizer(self.parts["llm"] / "tokenizer.model")

    def build(self, place: "Place") -> Model:
        from ovmer.baselines.models.videochat import VideoChat

        return VideoChat.load(*self._files, place)

    def write_miniature(self, folder: Path, seed: int) -> dict[str, Path]:
        from ovmer.baselines.models.videochat import write_miniature

        return write_miniature(folder, seed)

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        import torch

        from ovmer.baselines.layers.clip_vision import shortest_side_crop
        from ovmer.baselines.models.videochat import VideoChatInputs

        frames = read_frames(
            require_video(video), lambda count, _: segment_offsets(count, self.frames)
        )
        texts, notes = self._texts(subtitle, time_message(frames.indices, frames.fps))
        pixels = shortest_side_crop(frames.pixels, self._sizes.image, rounded=True)
        return Prepared(VideoChatInputs(texts, torch.from_numpy(pixels)), notes)

    def said(self, answer: "Generated") -> str:
        whole = len(answer.ids) < self.generation.max_new_tokens  # by the end token or "###"
        ended = whole and answer.text == self.tokenizer.decode(answer.ids)
        return self.clean(answer.text + _END * (ended and self.quirks == "paper"))

    def clean(self, text: str) -> str:
        """What follows the last `Assistant:`, as one line."""
        return super().clean(text.rpartition("Assistant:")[2].strip().replace("<s>", ""))

    def _texts(
        self, subtitle: str | None, times: str
    ) -> tuple[tuple[list[int], list[int]], tuple[str, ...]]:
        """The ids before and after the video, and a note where the subtitle was cut."""
        encode = self.tokenizer.encode
        before = [self.tokenizer.bos_id, *encode(self.before)]
        fixed = len(before) + self._sizes.positions
        template = self.after.replace("{times}", times)

        def after(question: str) -> list[int]:
            return encode(template.replace("{question}", question))

        limit = self._sizes.context - self.generation.max_new_tokens
        question, notes = self.ask(subtitle, limit, lambda text: fixed + len(after(text)))
        return (before, after(question)), notes


def time_message(indices: Sequence[int], fps: float, *, numpys: bool = True) -> str:
    """What the model is told of the frames it sees: how many, and when each was taken.

    Where upstream's indices are numpy's, so is its rounding: 3 / 20 is 0.2, in Python's own 0.1.
    """
    seconds = [index / fps for index in indices]
    tenths = np.round(seconds, 1).tolist() if numpys else [round(second, 1) for second in seconds]
    taken = ", ".join(map(str, tenths))
    return f"The video contains {len(indices)} frames sampled at {taken} seconds."
