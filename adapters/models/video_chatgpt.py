"""Video-ChatGPT as the OV-MER authors ran it: up to 100 frames, averaged over space and over time.

Video and subtitle (the authors' question speaks of sound, which the model is not given); a clip
without a picture is recorded as `missing_modality`.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ovmer.adapters.base import SUBTITLE, VIDEO, Prepared, require_video
from ovmer.adapters.media import read_frames
from ovmer.adapters.media.sampling import segment_middles
from ovmer.adapters.mllm import Mllm
from ovmer.adapters.registry import register
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.tokenizer import LlamaTokenizer

if TYPE_CHECKING:
    from ovmer.baselines.device import Place
    from ovmer.baselines.models.video_chatgpt import Sizes, VideoChatGpt

# Template `video-chatgpt_v1` (video_chatgpt/video_conversation.py); a blank is missing in the first
# text as published. The video comes after the question, and upstream's tokenizer takes what follows
# the video's end token as a text of its own.
_BEFORE = (
    "You are Video-ChatGPT, a large vision-language assistant. "
    "You are able to understand the video content that the user provides, "
    "and assist the user with a variety of tasks using natural language."
    "Follow the instructions carefully and explain your answers in detail "
    "based on the provided video. USER: {question}\n"
)
_AFTER = " ASSISTANT:"
_MOST_FRAMES = 100  # the places for frames in the prompt
_MOST_CHARACTERS = 1200  # `Chat.answer` of the authors' demo code, with a video


@register("video_chatgpt")
@dataclass
class VideoChatGptAdapter(Mllm):
    """The published model. `quirks=paper` cuts the question at 1200 characters as upstream does,
    which drops the end of a long subtitle."""

    frames: int = 100

    modalities: ClassVar[frozenset[str]] = frozenset({VIDEO, SUBTITLE})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.frames <= _MOST_FRAMES:
            raise PrerequisiteError(
                f"baseline.frames is {self.frames} but the model takes 1 to {_MOST_FRAMES}"
            )

    @cached_property
    def _sizes(self) -> "Sizes":
        from ovmer.baselines.models.video_chatgpt import Sizes

        return Sizes.read(self.parts["llm"], self.parts["tower"])

    def read_tokenizer(self) -> LlamaTokenizer:
        return LlamaTokenizer(self.parts["llm"] / "tokenizer.model")

    def build(self, place: "Place") -> "VideoChatGpt":
        from ovmer.baselines.models.video_chatgpt import VideoChatGpt

        parts = self.parts
        return VideoChatGpt.load(parts["llm"], parts["adapter"], parts["tower"], place)

    def write_miniature(self, folder: Path, seed: int) -> dict[str, Path]:
        from ovmer.baselines.models.video_chatgpt import write_miniature

        return write_miniature(folder, seed)

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        import torch

        from ovmer.baselines.models.video_chatgpt import VideoChatGptInputs, squash

        frames = read_frames(
            require_video(video), lambda count, _: segment_middles(count, self.frames)
        )
        texts, notes = self._texts(subtitle)
        pixels = squash(frames.pixels, self._sizes.image)
        return Prepared(VideoChatGptInputs(texts, torch.from_numpy(pixels)), notes)

    def _texts(self, subtitle: str | None) -> tuple[tuple[list[int], list[int]], tuple[str, ...]]:
        """The ids before and after the video, and notes where the subtitle was cut."""
        encode = self.tokenizer.encode
        after = encode(_AFTER)
        fixed = 1 + self._sizes.positions + len(after)

        def before(question: str) -> list[int]:
            return encode(_BEFORE.replace("{question}", question))

        limit = self._sizes.context - self.generation.max_new_tokens
        question, notes = self.ask(subtitle, limit, lambda text: fixed + len(before(text)))
        if self.quirks == "paper" and len(question) > _MOST_CHARACTERS:
            question = question[:_MOST_CHARACTERS]
            notes += (f"the question was cut at {_MOST_CHARACTERS} characters, as upstream does",)
        return ([self.tokenizer.bos_id, *before(question)], after), notes
