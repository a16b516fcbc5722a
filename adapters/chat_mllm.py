"""Base class of chat MLLMs, local or served: choice of frames, length of sound, question.

`ChatMllm.converse` reads one clip and gives a `Conversation`, whose `parts` are the content of the
user's message in order: the picture, the sound, the words. An adapter turns the parts into what its
model or server takes.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ovmer.adapters.audio_visual import BOTH, AudioVisualAdapter
from ovmer.adapters.base import AUDIO, VIDEO
from ovmer.adapters.media import Frames, Samples, read_frames, read_sound
from ovmer.adapters.media.sampling import linspace
from ovmer.adapters.question import QuestionTemplate
from ovmer.adapters.thinking import check_format
from ovmer.baselines.errors import PrerequisiteError

# The authors' questions to models of each kind (MERTools 89120b78, MER2025_Track23): to
# Video-LLaVA and four more; to Qwen-Audio; and as the first, with the sound where their question
# to Video-ChatGPT has it.
_ASK = (
    "As an expert in the field of emotions, please focus on the {clues} in the {medium} to discern "
    "clues related to the emotions of the individual. Please provide a detailed description and "
    "ultimately predict the emotional state of the individual in the {medium}."
)
_SAID = {VIDEO: "Subtitle content of this video", AUDIO: "Subtitle content of the audio"}
_CLUES = {
    VIDEO: "facial expressions, body movements, environment, subtitle content, etc.,",
    AUDIO: "acoustic information and subtitle content",
    BOTH: "facial expressions, body movements, environment, acoustic information, subtitle "
    "content, etc.,",
}


def questions() -> dict[str, QuestionTemplate]:
    """The OV-MER authors' question for each kind of clip."""
    found = {}
    for given, clues in _CLUES.items():
        medium = AUDIO if given == AUDIO else VIDEO
        ask = _ASK.format(clues=clues, medium=medium)
        found[given] = QuestionTemplate(f"{_SAID[medium]}: {{subtitle}}; {ask}", ask)
    return found


_PICTURES = ("video", "images")
_FEWEST_FRAMES = 4
MIN_SECONDS = 0.1
"""Shorter sounds are filled up with silence: Qwen's towers fail on a window or two of 10 ms."""


@dataclass(frozen=True)
class PromptPart:
    """One piece of a message."""

    kind: Literal["video", "image", "audio", "text"]
    content: Any
    """Frames; one frame (height x width x 3, RGB); samples; or words."""


@dataclass(frozen=True)
class Conversation:
    """One clip as a chat model is shown it."""

    frames: Frames | None
    sound: Samples | None
    """Mono, `rate` samples a second."""
    rate: int
    prompt: QuestionTemplate
    subtitle: str | None
    notes: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """The question, with the subtitle filled in."""
        return self.prompt.about(self.subtitle)

    def parts(self, picture: str) -> list[PromptPart]:
        """The user's message: the picture as one video or frame by frame, the sound, the words."""
        found = []
        if self.frames is not None:
            if picture == "video":
                found.append(PromptPart("video", self.frames))
            else:
                found += [PromptPart("image", frame) for frame in self.frames.pixels]
        if self.sound is not None:
            found.append(PromptPart("audio", self.sound))
        return [*found, PromptPart("text", self.question)]


@dataclass
class ChatMllm(AudioVisualAdapter):
    """An adapter around a chat model that sees, hears or does both."""

    prompts: dict[str, QuestionTemplate] = field(default_factory=questions)
    """Question for each combination of available media, in the OV-MER authors' words."""
    frames: int = 8
    """Spread from the first frame to the last; some are repeated where the clip has fewer."""
    fps: float = 0.0
    """Instead: frames per second, at most `frames` in all; 0 is off."""
    seconds: float = 30.0
    """Seconds of sound used at most, from its beginning."""
    picture: str = "video"
    """How frames are passed: as one `video`, or one by one as `images`."""
    thinking: str = "auto"
    """Format of the thinking part of an answer, see thinking.py."""
    system: str = ""
    """The system message; empty: the model's template decides."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_format(self.thinking)
        if self.picture not in _PICTURES:
            choices = ", ".join(_PICTURES)
            raise PrerequisiteError(f"baseline.picture is {self.picture!r}; choose from {choices}")
        for name, holds, rule in (
            ("frames", self.frames >= 1, "at least 1"),
            ("fps", self.fps >= 0, "at least 0"),
            ("seconds", self.seconds > 0, "above 0"),
        ):
            if not holds:
                value = getattr(self, name)
                raise PrerequisiteError(f"baseline.{name} is {value} but must be {rule}")

    def converse(
        self, video: Path | None, audio: Path | None, subtitle: str | None, rate: int
    ) -> Conversation:
        """Read a clip, its sound at `rate` samples a second.

        Raises ClipError where it cannot be read or lacks all that is wanted.
        """
        frames, sound, prompt, notes = self.perceive(
            video,
            audio,
            self._look,
            lambda path: read_sound(path, rate, max_seconds=self.seconds, min_seconds=MIN_SECONDS),
        )
        if sound is not None and len(sound) >= int(self.seconds * rate):
            rest = "what may follow was not heard"
            notes += (f"the sound fills the {self.seconds:g} s of baseline.seconds; {rest}",)
        if frames is not None and len(set(frames.indices)) < len(frames.indices):
            notes += (f"the clip has only {frames.count} frames, so some were shown twice",)
        return Conversation(frames, sound, rate, prompt, subtitle, notes)

    def _look(self, path: Path) -> Frames:
        return read_frames(path, self.frame_indices)

    def frame_indices(self, count: int, rate: float) -> list[int]:
        """The frames shown of a video with `count` frames, `rate` of them a second."""
        wanted = self.frames
        if self.fps:
            wanted = min(wanted, round(count / rate * self.fps), count)
            # Qwen3-VL's processor refuses a single frame; the cards of Qwen's models say 4 or more.
            wanted = max(wanted, min(_FEWEST_FRAMES, self.frames))
        return linspace(count, wanted, rounded=True)
