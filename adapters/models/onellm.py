"""OneLLM: a clip's sound, or its picture, and its subtitle.

A prompt of this model takes one of the two, so `modalities` has no value `both`. A clip that lacks
what is asked for is recorded as `missing_modality`. Its sound file is heard, or the video's own
track.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ovmer.adapters.audio_visual import AudioVisual
from ovmer.adapters.base import AUDIO, VIDEO, Prepared, require_audio, require_video
from ovmer.adapters.media import Samples, read_frames, read_sound
from ovmer.adapters.media.sampling import windows
from ovmer.adapters.mllm import VICUNA_SYSTEM, Model, Question
from ovmer.adapters.registry import register
from ovmer.baselines.layers.kaldi_fbank import FRAME, SAMPLE_RATE, SHIFT
from ovmer.baselines.tokenizer import LlamaTokenizer

if TYPE_CHECKING:
    from ovmer.baselines.device import Place

# Template `v1` (data/conversation_lib.py). One text; the clip goes between its start token and it.
BEFORE = f"{VICUNA_SYSTEM}\n\n###Human: "
AFTER = "\n###Assistant:"

_VIDEO_CLIPS = 5  # data/video_utils.py, `load_and_transform_video_data`
# A little more than the 10.26 s that are looked at; resampling reads past the end.
_ENOUGH_SECONDS = 11


@register("onellm")
@dataclass
class OneLlmAdapter(AudioVisual):
    """The published model. `quirks=paper` forgets the last two tokens of the prompt once the
    answer has begun, as upstream's code does, which miscounts what it has in its cache."""

    modalities: Any = field(default_factory=lambda: AUDIO)  # type: ignore[misc]
    prompts: dict[str, Question] = field(
        default_factory=lambda: {VIDEO: Question(), AUDIO: Question()}
    )

    choices: ClassVar[tuple[str, ...]] = (VIDEO, AUDIO)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quirks == "paper":
            self.transformers_only = (  # type: ignore[misc]
                "with quirks=paper the end of the prompt is taken out of the cache"
            )

    def read_tokenizer(self) -> LlamaTokenizer:
        return LlamaTokenizer(self.parts["model"] / "tokenizer.model")

    def build(self, place: "Place") -> Model:
        from ovmer.baselines.models.onellm import OneLlm

        return OneLlm.load(self.parts["model"], place, forgetful=self.quirks == "paper")

    def write_miniature(self, folder: Path, seed: int) -> dict[str, Path]:
        from ovmer.baselines.models.onellm import write_miniature

        return write_miniature(folder, seed)

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        from ovmer.baselines.models.onellm import (
            CONTEXT,
            MEL_FRAMES,
            POSITIONS,
            OneLlmInputs,
            mel_picture,
            views,
        )

        notes: tuple[str, ...] = ()
        if VIDEO in self.modalities:
            sense, signal = VIDEO, views(read_frames(require_video(video), look_at).pixels)
        else:
            sound = listen(require_audio(audio))
            sense, signal = AUDIO, mel_picture(sound)
            if len(sound) >= FRAME + MEL_FRAMES * SHIFT:
                notes = ("the model hears the first 10.2 seconds of a sound; this one is longer",)
        question, cut = self.ask(
            subtitle,
            CONTEXT - self.generation.max_new_tokens,
            lambda question: POSITIONS + sum(map(len, self._texts(question))),
            self.prompts[sense],
        )
        return Prepared(OneLlmInputs(self._texts(question), sense, signal), notes + cut)

    def _texts(self, question: str) -> list[list[int]]:
        """The token ids before and after what is seen or heard."""
        return [[self.tokenizer.bos_id], self.tokenizer.encode(f"{BEFORE}{question}{AFTER}")]


def look_at(count: int, fps: float) -> list[int]:
    """The index of the first frame of five stretches of 1 s, the last of which ends early."""
    return windows(count, fps, 1, _VIDEO_CLIPS, 1)


def listen(path: Path) -> Samples:
    """Samples [n] of the first channel at 16 kHz, the first 11 s of them."""
    return read_sound(
        path,
        SAMPLE_RATE,
        channels="first",
        resampling="sinc_hann",
        max_seconds=_ENOUGH_SECONDS,
    )
