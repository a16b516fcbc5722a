"""Chat MLLMs behind an OpenAI-compatible server: `vllm serve`, or hosted ones.

A clip is one user message: its frames as images or as one video, its sound as a WAV file, and the
question. What is sent is bounded by `frames`, `longest_side`, `jpeg_quality` and `seconds`. A
refusal and an answer that was filtered are recorded as `refused`; one that was cut has a note.
Control tokens spelled out in a subtitle are left to the server's tokenizer.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ovmer.adapters.base import Answer, Feeding, Machine, Prepared
from ovmer.adapters.chat_mllm import ChatMllm, PromptPart
from ovmer.adapters.media import encode
from ovmer.adapters.registry import register
from ovmer.adapters.thinking import one_line, without_thinking
from ovmer.baselines.decoding.answers import Generated, in_order
from ovmer.baselines.decoding.engine_settings import ServerSettings, engine_settings
from ovmer.baselines.decoding.server_engine import ChatServer
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import ClipError, PrerequisiteError

if TYPE_CHECKING:
    from ovmer.baselines.decoding.miniature_server import MiniatureServer

_RATE = 16_000
"""Samples a second: the rate of all speech encoders."""


@register("served")
@dataclass
class Served(ChatMllm):
    """A model by its name on the server that `engine=server` describes."""

    model: str = ""
    """As the server has it."""
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    picture: str = "images"
    """How frames are sent: as `images`, which all servers take, or as one `video` (MP4)."""
    longest_side: int = 512
    """Of a frame, in pixels; larger ones are made smaller."""
    jpeg_quality: int = 90
    """Of images, 1 to 95."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Further keys of the request, e.g. `reasoning_effort: low`; a null leaves one of ours out."""

    runs_elsewhere: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._is_miniature = False
        self._miniature: MiniatureServer | None = None
        for name, least, most in (("longest_side", 16, 8192), ("jpeg_quality", 1, 95)):
            if not least <= getattr(self, name) <= most:
                raise PrerequisiteError(
                    f"baseline.{name} is {getattr(self, name)} but must be {least} to {most}"
                )

    @property
    def feeding(self) -> Feeding:
        return "stream"

    def load(self, machine: Machine) -> None:
        """Raises PrerequisiteError for settings that are wrong; the server is asked later."""
        if machine.engine["name"] != "server":
            raise PrerequisiteError(
                f"baseline.adapter=served asks a server, but engine={machine.engine['name']} was "
                "chosen; say engine=server"
            )
        if not (self.model or self._is_miniature):
            raise PrerequisiteError(
                "baseline.model is missing: the model's name on the server, e.g. "
                "baseline.model=Qwen/Qwen2.5-Omni-7B"
            )
        settings = engine_settings(machine.engine)
        assert isinstance(settings, ServerSettings)
        if self._is_miniature:
            from ovmer.baselines.decoding.miniature_server import MiniatureServer

            self._miniature = MiniatureServer()
            settings.base_url = self._miniature.url
        self._engine = ChatServer(
            self.model, settings, self.generation, model_key="baseline.model", more=self.parameters
        )

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        clip = self.converse(video, audio, subtitle, _RATE)
        content = [self._part(part) for part in clip.parts(self.picture)]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if self.system:
            messages.insert(0, {"role": "system", "content": self.system})
        return Prepared(messages, clip.notes)

    def generate(self, batch: list[Prepared]) -> Sequence[str | Answer | ClipError]:
        return in_order(self.stream(batch))

    def stream(self, items: Iterable[Prepared]) -> Iterator[tuple[int, Answer | ClipError]]:
        asked = enumerate((item.inputs, item.seed) for item in items)
        for index, outcome in self._engine.stream(asked):
            yield index, outcome if isinstance(outcome, ClipError) else self._answer(outcome)

    def miniature(self, folder: Path, seed: int = 0) -> Self:
        """Asks a server of the process that loads it, which answers with what it was sent."""
        dry = replace(self)
        dry._is_miniature = True
        return dry

    def close(self) -> None:
        if self._miniature:
            self._miniature.close()

    def _part(self, part: PromptPart) -> dict[str, Any]:
        match part.kind:
            case "image":
                data = encode.jpeg(part.content, self.longest_side, self.jpeg_quality)
                return {"type": "image_url", "image_url": {"url": _url("image/jpeg", data)}}
            case "video":
                data = encode.mp4(part.content, self.longest_side)
                return {"type": "video_url", "video_url": {"url": _url("video/mp4", data)}}
            case "audio":
                data = encode.wav(part.content, _RATE)
                sound = {"data": b64encode(data).decode(), "format": "wav"}
                return {"type": "input_audio", "input_audio": sound}
        return {"type": "text", "text": part.content}

    def _answer(self, reply: Generated) -> Answer:
        most = self.generation.max_new_tokens
        return without_thinking(reply, self.thinking, one_line, most_tokens=most)


def _url(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{b64encode(data).decode()}"
