"""Video-ChatGPT as the OV-MER authors ran it: up to 100 frames, averaged over space and over time.

Video and subtitle (the authors' question speaks of sound, which the model is not given); a clip
without a picture is recorded as `missing_modality`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ovmer.adapters.base import SUBTITLE, VIDEO, Prepared, require_video
from ovmer.adapters.media import read_frames
from ovmer.adapters.media.sampling import segment_middles
from ovmer.adapters.mllm import Mllm
from ovmer.adapters.registry import register
from ovmer.baselines.errors import PrerequisiteError

_MOST_FRAMES = 100  # positions for frames in the prompt
_MOST_CHARACTERS = 1200  # `Chat.answer` of the authors' demo code, with a video


@register("video_chatgpt")
@dataclass
class VideoChatGptAdapter(Mllm):
    """The published model. `bug_compat` cuts the question at 1200 characters as upstream does,
    which drops the end of a long subtitle."""

    frames: int = 100

    modalities: ClassVar[frozenset[str]] = frozenset({VIDEO, SUBTITLE})
    model_class: ClassVar[str] = "ovmer.baselines.models.video_chatgpt:VideoChatGpt"

    # `video-chatgpt_v1` (video_chatgpt/video_conversation.py); a blank is missing in the first text
    # as published. The video comes after the question, and upstream's tokenizer takes what follows
    # the video's end token as a text of its own.
    template: ClassVar[tuple[str, ...]] = (
        "You are Video-ChatGPT, a large vision-language assistant. "
        "You are able to understand the video content that the user provides, "
        "and assist the user with a variety of tasks using natural language."
        "Follow the instructions carefully and explain your answers in detail "
        "based on the provided video. USER: {question}\n",
        " ASSISTANT:",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.frames <= _MOST_FRAMES:
            raise PrerequisiteError(
                f"baseline.frames is {self.frames} but the model takes 1 to {_MOST_FRAMES}"
            )

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        import torch

        from ovmer.baselines.models.video_chatgpt import VideoChatGptInputs, squash

        frames = read_frames(
            require_video(video), lambda count, _: segment_middles(count, self.frames)
        )
        question, notes = self.fit_question(subtitle, self.sizes.positions)
        if self.bug_compat and len(question) > _MOST_CHARACTERS:
            question = question[:_MOST_CHARACTERS]
            notes += (f"the question was cut at {_MOST_CHARACTERS} characters, as upstream does",)
        pixels = torch.from_numpy(squash(frames.pixels, self.sizes.image))
        return Prepared(VideoChatGptInputs(self.texts(question), pixels), notes)
