"""Chat MLLMs that transformers ships, each by a yaml file alone.

What differs between them is data: the architecture's class, whether its processor takes frames as a
video or as images, and whether it weaves the sound into the video. The rest, chat template and
placeholders included, comes with the checkpoint's own processor. Settings that chat models here and
behind a server share are in chat_mllm.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ovmer.adapters.base import AUDIO, VIDEO, Adapter, Answer, Machine, Prepared
from ovmer.adapters.chat_mllm import ChatMllm
from ovmer.adapters.media import Frames, Samples, read_frames
from ovmer.adapters.mllm import Mllm
from ovmer.adapters.native_room import MANY, ContextRoom
from ovmer.adapters.registry import register
from ovmer.adapters.streaming import Encoded
from ovmer.adapters.thinking import opens_thinking, without_thinking
from ovmer.baselines.checkpoint import Loading
from ovmer.baselines.errors import ClipError, PrerequisiteError, first_line
from ovmer.baselines.tokenizer import Tokenizer

if TYPE_CHECKING:
    from ovmer.baselines.decoding.answers import Generated, MediaPrompt, VllmPrompt
    from ovmer.baselines.decoding.engine_settings import VllmSettings
    from ovmer.baselines.decoding.vllm_engine import VllmEngine
    from ovmer.baselines.device import Placement
    from ovmer.baselines.native.model import ChatModel
    from ovmer.baselines.native.processor import ChatProcessor, ClipMedia

_FULL_HD = (1080, 1920)
_LONG_SUBTITLE = 512
"""Tokens."""
_LONG_CLIP = 60
"""With `fps`, vLLM reserves memory for the frames of a clip of this length."""


@dataclass(frozen=True)
class _Asked(Encoded):
    """A clip's prompt: the class of transformers has its encoders within `generate`."""

    inside: bool
    """Whether the template has opened the thinking part of the answer."""


@register("native")
@dataclass
class Native(ChatMllm, Mllm):
    """A model by its class in transformers and its checkpoint, the part called `model`."""

    architecture: str = ""
    """The class of transformers, as the checkpoint's config.json has it; of an omni model the
    class that writes text."""
    sound_in_video: bool = False
    """Whether sound that comes with a picture is woven into it, as Qwen's omni models do."""
    processor: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the processor's call."""
    template: dict[str, Any] = field(default_factory=dict)  # type: ignore[assignment,misc]
    """Arguments of the chat template, `enable_thinking: false`; `chat_template` is another template
    than the checkpoint's, as Jinja or as the name of a file."""
    lora: dict[str, str] = field(default_factory=dict)
    """Low-rank adapters in folders of the checkpoint, by the input that calls for each; of several
    inputs the first decides."""
    packages: dict[str, str] = field(default_factory=dict)
    """Packages that the class needs beside transformers, and the extra that installs each."""
    shrink: dict[str, Any] = field(default_factory=dict)
    """For dry runs: sizes that the rule for miniatures misses, by dotted name."""

    _is_miniature = False
    _takes_media = False
    """Whether the engine takes the media themselves: vLLM runs the processor itself."""

    def __post_init__(self) -> None:
        Mllm.__post_init__(self)
        ChatMllm.__post_init__(self)
        if not self.architecture:
            raise PrerequisiteError(
                "baseline.architecture is missing: the name of the model's class in transformers"
            )

    # -- what Mllm asks for ----------------------------------------------------------------------

    @property
    def transformers_only(self) -> str:  # type: ignore[override]
        return self._processor.transformers_only

    def read_tokenizer(self) -> Tokenizer:
        return self._processor

    def write_miniature(self, folder: Path, seed: int) -> dict[str, Path]:
        from ovmer.baselines.native.miniature import write_miniature

        _check_packages(self.architecture, self.packages)
        thinks = {"thinks": True} if self.thinking not in ("auto", "none") else {}
        adapters = sorted(set(self.lora.values()))
        write_miniature(folder, self.architecture, {**thinks, **self.shrink}, seed, adapters)
        return {"model": folder}

    def miniature(self, folder: Path, seed: int = 0) -> Self:
        small = super().miniature(folder, seed)
        small._is_miniature = True
        return small

    def on(self, machine: Machine) -> Adapter:
        """Return the adapter for a machine; with `engine=server`, for a server with the model."""
        if machine.engine["name"] != "server":
            return super().on(machine)
        from ovmer.adapters.served import Served

        self.refuse_adapters()
        shared = {each.name: getattr(self, each.name) for each in fields(ChatMllm)}
        part = self.checkpoint["model"]
        model = part.path or part.repo or ""
        return Served(**shared, model=model, generation=self.generation)

    def build(self, placement: "Placement") -> "ChatModel":
        """The model with its weights, without adapters."""
        from ovmer.baselines.chat import load_chat_model
        from ovmer.baselines.native.classes import class_named
        from ovmer.baselines.native.model import ChatModel

        cls, folder = class_named(self.architecture), self.parts["model"]
        notes = placement.loading.notes if placement.loading else []
        return ChatModel(load_chat_model(folder, placement, cls, self.architecture, notes=notes))

    def load(self, machine: Machine) -> None:
        _check_packages(self.architecture, self.packages)
        folder = self.parts["model"]  # missing parts are reported before any slow import
        from ovmer.baselines.decoding.batches import Batches
        from ovmer.baselines.decoding.engine_settings import (
            TransformersSettings,
            VllmSettings,
            engine_settings,
        )
        from ovmer.baselines.native.model import ChatModel

        _check_inputs(self._processor, self.modalities, self.picture)
        settings = engine_settings(machine.engine)
        here = isinstance(settings, TransformersSettings)
        settings.check(self.generation, "" if here else self.transformers_only)
        self._batches, self._encoding = Batches(), Lock()
        self._loading = Loading(self.checkpoint, self.parts)
        if isinstance(settings, VllmSettings):
            if self.lora:
                raise PrerequisiteError(
                    "engine=vllm does not load the adapters of baseline.lora, without which this "
                    "model hardly works; say engine=transformers"
                )
            self.engine = self._vllm(folder, settings, machine)
            self._takes_media = True
        else:
            assert isinstance(settings, TransformersSettings)
            llm = settings.read(
                folder, machine.device, machine.dtype, self.architecture, self._loading
            )
            if self.lora:
                from ovmer.baselines.native.low_rank import add_adapters

                add_adapters(llm, folder, self.lora)
            self.modules = ChatModel(llm)
            self.engine = settings.engine(llm, self.tokenizer, self.generation, with_media=True)
        self._room.engine_context = getattr(self.engine, "context", None)

    def _vllm(self, folder: Path, settings: "VllmSettings", machine: Machine) -> "VllmEngine":
        from ovmer.baselines.native.vllm import start_chat_vllm

        # vLLM keeps memory for the most that a prompt may hold.
        kind, most = ("video", 1) if self.picture == "video" else ("image", self.frames)
        limits = {"video": 0, "image": 0, "audio": int(AUDIO in self.modalities)}
        limits[kind] = most if VIDEO in self.modalities else 0
        own = settings.own_arguments(machine.device, machine.dtype)
        if own["max_model_len"] < 0:
            own["max_model_len"] = self._longest()
        options = {"limit_mm_per_prompt": limits} | own
        return start_chat_vllm(
            folder,
            self.architecture,
            self._processor,
            self.generation,
            options,
            self._loading.single_adapter(),
        )

    def _longest(self) -> int:
        """Tokens that the longest prompt and its answer are expected to take.

        With the frames of a minute in full HD, all seconds of sound and a long subtitle: vLLM
        keeps memory for the whole context of a model otherwise, 36 GiB for Qwen3-VL's.
        """
        from ovmer.baselines.native.processor import ClipMedia, Message

        asked = [Message([], prompt.about(""), self.system) for prompt in self.prompts.values()]
        needed = _LONG_SUBTITLE + self.generation.max_new_tokens
        needed += max(map(self._processor.length, asked))
        if VIDEO in self.modalities:
            count, rate = 25 * _LONG_CLIP, 25.0
            blank = Frames(np.zeros((1, *_FULL_HD, 3), np.uint8), (0,), rate, count)
            needed += self._room.tokens_of(len(self.frame_indices(count, rate)), blank)
        if AUDIO in self.modalities:
            sound = np.zeros(int(self.seconds * self._processor.rate), np.float32)
            needed += len(
                self._processor(Message(["audio"], "", self.system), ClipMedia(sound=sound))
            )
        return min(self._room.context, -(-needed // 1024) * 1024)

    # -- one clip --------------------------------------------------------------------------------

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        from ovmer.baselines.native.processor import Message

        words = None if subtitle is None else self._processor.defused(subtitle)
        conversation = self.converse(video, audio, words, self._processor.rate)
        media = self._media(conversation.frames, conversation.sound)

        def message(question: str) -> Message:
            return Message(media.kinds, question, self.system)

        def length(question: str) -> int:
            return slots + self._processor.length(message(question))

        question, notes = conversation.question, conversation.notes
        with self._blamed_on_miniature():
            prompt = self._processor(message(question), media)
        if len(prompt) > self._room.limit:
            slots = len(prompt) - self._processor.length(message(question))
            shown = 0 if conversation.frames is None else len(conversation.frames.indices)
            self._room.check(length(conversation.prompt.about(words and "")), shown)
            question, cut = self.ask(words, self._room.limit, length, conversation.prompt)
            prompt, notes = self._processor(message(question), media), notes + cut
        whole = self._processor.render(message(question))
        asked = _Asked(self._given(prompt, whole, media), opens_thinking(whole))
        tokens = (len(prompt) + self.generation.max_new_tokens) * self.generation.num_beams
        return Prepared(asked, notes, tokens=tokens)

    @contextmanager
    def _blamed_on_miniature(self) -> Iterator[None]:
        """Raises PrerequisiteError for what a random miniature's sizes may be the cause of."""
        try:
            yield
        except (PrerequisiteError, LookupError, RuntimeError, TypeError, ValueError) as error:
            if not self._is_miniature or "OutOfMemory" in type(error).__name__:
                raise
            raise PrerequisiteError(
                f"the random miniature of {self.architecture} cannot answer this clip "
                f"({type(error).__name__}: {first_line(error)}), which says nothing about the "
                "model; set the sizes that do not fit under baseline.shrink, or run it without "
                "dry_run"
            ) from error

    def _look(self, path: Path) -> Frames:
        if self.frames > MANY:
            first = read_frames(path, lambda count, rate: [0])
            self._room.check_frames(first, len(self.frame_indices(first.count, first.fps)))
        return super()._look(path)

    def _given(
        self, prompt: "MediaPrompt", whole: str, media: "ClipMedia"
    ) -> "MediaPrompt | VllmPrompt":
        """The prompt in the engine's form."""
        if not self._takes_media:
            return prompt
        from ovmer.baselines.native.vllm import with_media

        return with_media(whole, media, len(prompt), self._processor)

    def _media(self, frames: Frames | None, sound: Samples | None) -> "ClipMedia":
        from ovmer.baselines.native.processor import ClipMedia

        if frames is None:
            return ClipMedia(sound=sound)
        if self.picture == "images":
            return ClipMedia(images=list(frames.pixels), sound=sound)
        when = {
            "fps": frames.fps,
            "total_num_frames": frames.count,
            "frames_indices": list(frames.indices),
            "duration": frames.count / frames.fps,
            "height": frames.pixels.shape[1],
            "width": frames.pixels.shape[2],
        }
        woven = self.sound_in_video and sound is not None
        return ClipMedia(video=frames.pixels, when=when, sound=sound, woven=woven)

    @cached_property
    def _processor(self) -> "ChatProcessor":
        from ovmer.baselines.native.model import read_processor

        return read_processor(self.parts["model"], self.processor, self.template)

    @cached_property
    def _room(self) -> ContextRoom:
        from ovmer.baselines.native.model import context_of

        return ContextRoom(
            self._processor,
            self._media,
            self.system,
            one_by_one=self.picture == "images",
            context=context_of(self.parts["model"], self.architecture),
            new_tokens=self.generation.max_new_tokens,
            is_miniature=self._is_miniature,
        )

    # -- the answer ------------------------------------------------------------------------------

    def generate(self, batch: list[Prepared]) -> Sequence[str | Answer | ClipError]:
        with self._blamed_on_miniature():
            return super().generate(batch)

    def to_answer(self, generated: "Generated", item: Prepared) -> Answer:
        return without_thinking(generated, self.thinking, self.clean, inside=item.inputs.inside)


def _check_packages(architecture: str, packages: Mapping[str, str]) -> None:
    """Raises PrerequisiteError if one of `packages` (name -> our extra) is not installed."""
    for package, extra in packages.items():
        if find_spec(package) is None:
            raise PrerequisiteError(
                f"{architecture} needs the package {package}, which is not installed; "
                f"pip install 'ovmer[{extra}]'"
            )


def _check_inputs(processor: "ChatProcessor", modalities: frozenset[str], picture: str) -> None:
    """Raises PrerequisiteError if the processor does not take one of the modalities.

    `picture` is how frames are passed: as a `video` or as `images`.
    """
    name = processor.name
    if AUDIO in modalities and not processor.takes("audio"):
        raise PrerequisiteError(
            f"this model hears nothing (its {name} takes no sound); set baseline.modalities=video"
        )
    medium = "video" if picture == "video" else "image"
    if VIDEO not in modalities or processor.takes(medium):
        return
    if medium == "video" and processor.takes("image"):
        raise PrerequisiteError(
            f"this model takes no video (its {name} has no input for it), but images; set "
            "baseline.picture=images"
        )
    raise PrerequisiteError(
        f"this model sees nothing (its {name} takes no {medium}); set baseline.modalities=audio"
    )
