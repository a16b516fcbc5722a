"""The processor of a chat MLLM of transformers: from a message and its media to `generate`.

A processor is called for one clip at a time, and the engine makes batches of what it returns, so
that a clip's tokens do not depend on its neighbours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ovmer.baselines.chat import TransformersTokenizer, sandboxed
from ovmer.baselines.decoding.answers import MediaPrompt
from ovmer.baselines.errors import ClipError, PrerequisiteError, first_line

_PER_TOKEN = ("mm_token_type_ids", "token_type_ids", "cross_attention_mask")
_PART_OF = {
    "video": ("video_processor",),
    "image": ("image_processor",),
    "audio": ("feature_extractor", "audio_processor"),
}
"""Attributes of a processor that takes such media."""

_WOVEN = "use_audio_in_video"
"""The option of Qwen's omni models, in the processor (order of the placeholders) and in the
model (their positions in time)."""

_WITH_SOUND = ("load_audio_from_video", "audio_from_video_indices")
"""The processor's options since transformers 5.23, with the index of the video."""

_PACKED = {"pixel_values": "target_sizes", "pixel_values_videos": "target_sizes_videos"}
"""Of MiniCPM-V, whose patches of all frames are one row: what says where each frame ends."""

_OF_THE_MEDIA = ("video_metadata", "do_sample_frames", "sampling_rate")
"""Arguments that vLLM takes with the media themselves."""


@dataclass(frozen=True)
class ClipMedia:
    """A clip's picture and sound in the form that processors take."""

    video: NDArray[np.uint8] | None = None
    """Frames x height x width x 3."""
    when: Mapping[str, Any] | None = None
    """Of the file that the video is of: `fps`, `total_num_frames`, `frames_indices`."""
    images: Sequence[NDArray[np.uint8]] = ()
    sound: NDArray[np.float32] | None = None
    woven: bool = False
    """Whether the sound goes between the frames of its time, without a placeholder of its own."""

    @property
    def kinds(self) -> list[str]:
        """The kinds of media that have a slot of their own in a message, in order."""
        seen = ["image"] * len(self.images) if self.video is None else ["video"]
        return seen if self.sound is None or self.woven else [*seen, "audio"]

    def emptied(self) -> "ClipMedia":
        """The same, but of the frames there are only the shapes."""

        def blank(frames: NDArray[np.uint8]) -> Any:
            return torch.empty(frames.shape, dtype=torch.uint8, device="meta")

        video = None if self.video is None else blank(self.video)
        return replace(self, video=video, images=[blank(frame) for frame in self.images])


@dataclass(frozen=True)
class Message:
    """A clip's prompt: a slot for each of its media, then the question."""

    kinds: Sequence[str]
    """`video`, `image` or `audio`, in order."""
    question: str
    system: str = ""
    """The system message; empty: the chat template decides."""

    def chat(self, media: Mapping[str, Mapping[str, Any] | None]) -> list[dict[str, Any]]:
        """The message in a chat template's form; `media` describes each kind, None omits it."""
        described = ((kind, media.get(kind, {})) for kind in self.kinds)
        content = [{"type": kind, **each} for kind, each in described if each is not None]
        found = [{"role": "user", "content": [*content, {"type": "text", "text": self.question}]}]
        if self.system:
            text = {"type": "text", "text": self.system}
            found.insert(0, {"role": "system", "content": [text]})
        return found


def _picture(frame: Any) -> Any:
    """A frame as all processors take it; one without content as it is."""
    return Image.fromarray(frame) if isinstance(frame, np.ndarray) else frame


_MARKERS = ("<|channel>", "<channel|>")
"""Control tokens around what Gemma 4 thinks, without which it runs into the answer."""


class ChatProcessor(TransformersTokenizer):
    """A processor of transformers; its tokenizer is a `ovmer.baselines.tokenizer.Tokenizer`."""

    transformers_only = ""
    """Why no engine but transformers can be given what it makes; empty where vLLM can as well."""

    def __init__(
        self,
        processor: Any,
        folder: Path,
        options: Mapping[str, Any],
        template: Mapping[str, Any] | None = None,
    ) -> None:
        """`template` holds arguments of `apply_chat_template`, `chat_template` among them."""
        super().__init__(processor.tokenizer, folder)
        self.name = type(processor).__name__
        self._processor, self._options = processor, dict(options)
        self._template = dict(template or {})
        self._has_taken_one = False

    def takes(self, medium: str) -> bool:
        """Whether the model has an input for `video`, `image` or `audio`."""
        return any(hasattr(self._processor, part) for part in _PART_OF[medium])

    @property
    def rate(self) -> int:
        """Samples a second of the sound that the model takes."""
        for part in _PART_OF["audio"]:
            if rate := getattr(getattr(self._processor, part, None), "sampling_rate", None):
                return int(rate)
        return 16000

    @cached_property
    def _markers(self) -> Mapping[int, str]:
        known = self._tokenizer.get_added_vocab()
        return {known[each]: each for each in _MARKERS if each in known}

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; of control tokens only those around what was thought are left in it."""
        pieces = groupby(ids, self._markers.get)
        decode = super().decode
        return "".join(marker or decode(list(each)) for marker, each in pieces)

    def defused(self, words: str) -> str:
        """`words` with a blank in whatever spells a control token, which would be taken for one."""
        for token in self._control:
            words = words.replace(token, f"{token[0]} {token[1:]}")
        return words

    def render(self, message: Message) -> str:
        """The prompt in the model's chat template."""
        # SmolVLM's warns of its own where it has no padding.
        options = {"processor_kwargs": {"padding": False}, **self._template}
        with sandboxed(self._folder):
            return str(
                self._processor.apply_chat_template(
                    message.chat({}), add_generation_prompt=True, tokenize=False, **options
                )
            )

    def length(self, message: Message) -> int:
        """How many tokens a message has, each medium counted as its placeholder at most."""
        return len(self._tokenizer.encode(self.render(message), add_special_tokens=False))

    def length_with(self, message: Message, media: ClipMedia) -> int | None:
        """How many tokens a message has with media of that size, without processing them.

        None for the few processors that look at what the media show.
        """
        try:
            return len(self._made(message, media.emptied())["input_ids"][0])
        except (RuntimeError, TypeError, ValueError):
            return None

    def __call__(self, message: Message, media: ClipMedia) -> MediaPrompt:
        """The input of `generate`: the ids of a message's prompt, and the media's features.

        Raises PrerequisiteError where the processor does not take them so, and ClipError where it
        took other clips before.
        """
        try:
            made = self._made(message, media)
        except (TypeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
            refused = f"{self.name} does not take the clip as it was given ({first_line(error)})"
            if self._has_taken_one:
                raise ClipError(f"{refused}, though it took others") from error
            raise PrerequisiteError(
                f"{refused}; see baseline.processor and baseline.picture"
            ) from error
        self._has_taken_one = True
        tensors = {name: torch.as_tensor(value) for name, value in made.items()}
        ids = tensors.pop("input_ids")[0].tolist()
        tensors.pop("attention_mask", None)
        per_token = {name: tensors.pop(name)[0] for name in _PER_TOKEN if name in tensors}
        switches = {_WOVEN: True} if media.woven else {}
        packed = [name for name, ends in _PACKED.items() if ends in tensors]
        return MediaPrompt(ids, per_token, tensors, switches, packed)

    def _made(self, message: Message, media: ClipMedia) -> Any:
        """The processor's answer, tensors by their names."""
        prompt = self.render(message)
        return self._processor(text=[prompt], return_tensors="pt", **self.arguments(media))

    def arguments(self, media: ClipMedia) -> dict[str, Any]:
        """The processor's arguments for a clip's media, the options among them."""
        given: dict[str, Any] = {}
        if media.video is not None:
            given["videos"] = [[media.video]]
            when = dict(media.when or {})
            given["videos_kwargs"] = {
                "video_metadata": [when],
                "do_sample_frames": False,
                "fps": len(when["frames_indices"]) / when["total_num_frames"] * when["fps"],
            }
        if media.images:
            given["images"] = [[_picture(frame) for frame in media.images]]
        if media.sound is not None:
            given["audio"] = [media.sound]
            given["audio_kwargs"] = {"sampling_rate": self.rate}
        if media.woven and hasattr(self._processor, "load_audio_from_video"):  # transformers 5.23
            given |= dict(zip(_WITH_SOUND, (True, [0]), strict=True))
        elif media.woven:
            given["videos_kwargs"][_WOVEN] = True
        for name, value in self._options.items():
            here = given.get(name)
            if isinstance(value, Mapping) and isinstance(here, dict):
                given[name] = {**here, **value}
            elif name not in ("videos_kwargs", "images_kwargs", "audio_kwargs"):
                given[name] = value
        return given

    def options(self, media: ClipMedia) -> dict[str, Any]:
        """Options of the processor's call beside the media, in vLLM's form."""
        options: dict[str, Any] = {}
        for name, value in self.arguments(media).items():
            if name.endswith("_kwargs"):
                options[name] = {
                    key: each for key, each in value.items() if key not in _OF_THE_MEDIA
                }
            elif name not in ("videos", "images", "audio", *_WITH_SOUND):
                options[name] = value
        if media.woven:
            options[_WOVEN] = True  # which vLLM looks for here
        return options
