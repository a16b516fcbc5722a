"""VideoChat as the OV-MER authors ran it: 8 frames, the times at which they were taken, a subtitle.

A clip without a picture is recorded as `missing_modality`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ovmer.adapters.base import SUBTITLE, VIDEO, Prepared, require_video
from ovmer.adapters.media import read_frames
from ovmer.adapters.media.sampling import segment_offsets
from ovmer.adapters.mllm import Mllm
from ovmer.adapters.registry import register
from ovmer.baselines.errors import PrerequisiteError

if TYPE_CHECKING:
    from ovmer.baselines.decoding.answers import Generated


_END = "</s>"


@register("videochat")
@dataclass
class VideoChatAdapter(Mllm):
    """The published model. `bug_compat` spells out the end token of an answer that has one, as
    the authors' code leaves it in the text."""

    frames: int = 8

    modalities: ClassVar[frozenset[str]] = frozenset({VIDEO, SUBTITLE})
    model_class: ClassVar[str] = "ovmer.baselines.models.videochat:VideoChat"

    # `conversation.py` of the authors' demo, with an empty system text, split at the video; each
    # side is tokenised as a text of its own.
    template: ClassVar[tuple[str, ...]] = (
        "###Human: <Video>",
        "</Video> {times}\n###Human: {question}\n###Assistant:",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames < 1:
            raise PrerequisiteError("baseline.frames must be at least 1")

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        import torch

        from ovmer.baselines.layers.clip_vision import shortest_side_crop
        from ovmer.baselines.models.videochat import VideoChatInputs

        frames = read_frames(
            require_video(video), lambda count, _: segment_offsets(count, self.frames)
        )
        times = time_message(frames.indices, frames.fps)
        template = [text.replace("{times}", times) for text in self.template]
        question, notes = self.fit_question(subtitle, self.sizes.positions, template=template)
        pixels = shortest_side_crop(frames.pixels, self.sizes.image, rounded=True)
        texts = self.texts(question, template)
        return Prepared(VideoChatInputs(texts, torch.from_numpy(pixels)), notes)

    def said(self, answer: "Generated") -> str:
        whole = len(answer.ids) < self.generation.max_new_tokens  # by the end token or "###"
        ended = whole and answer.text == self.tokenizer.decode(answer.ids)
        return self.clean(answer.text + _END * (ended and self.bug_compat))

    def clean(self, text: str) -> str:
        """The text after the last `Assistant:`, as one line."""
        return super().clean(text.rpartition("Assistant:")[2].strip().replace("<s>", ""))


def time_message(indices: Sequence[int], fps: float, *, numpys: bool = True) -> str:
    """The sentence in the prompt about the frames: how many, and when each was taken.

    Where upstream's indices are numpy's, so is its rounding: 3 / 20 is 0.2, in Python's own 0.1.
    """
    seconds = [index / fps for index in indices]
    tenths = np.round(seconds, 1).tolist() if numpys else [round(second, 1) for second in seconds]
    taken = ", ".join(map(str, tenths))
    return f"The video contains {len(indices)} frames sampled at {taken} seconds."
