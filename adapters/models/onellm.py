"""OneLLM: a clip's sound, or its picture, and its subtitle.

A prompt of this model takes one of the two, so `modalities` has no value `both`. A clip that lacks
what is asked for is recorded as `missing_modality`. Its sound file is heard, or the video's own
track.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ovmer.adapters.audio_visual import AudioVisual
from ovmer.adapters.base import AUDIO, VIDEO, Prepared, require_audio, require_video
from ovmer.adapters.media import Samples, read_frames, read_sound
from ovmer.adapters.media.sampling import windows
from ovmer.adapters.mllm import VICUNA_SYSTEM
from ovmer.adapters.question import QuestionTemplate
from ovmer.adapters.registry import register
from ovmer.baselines.layers.kaldi_fbank import FRAME, SAMPLE_RATE, SHIFT

_VIDEO_CLIPS = 5  # data/video_utils.py, `load_and_transform_video_data`
# A little more than the 10.26 s that are looked at; resampling reads past the end.
_ENOUGH_SECONDS = 11


@register("onellm")
@dataclass
class OneLlmAdapter(AudioVisual):
    """The published model. `bug_compat` forgets the last two tokens of the prompt once the answer
    has begun, as upstream's code does, which miscounts what it has in its cache."""

    modalities: Any = field(default_factory=lambda: AUDIO)  # type: ignore[misc]
    prompts: dict[str, QuestionTemplate] = field(
        default_factory=lambda: {VIDEO: QuestionTemplate(), AUDIO: QuestionTemplate()}
    )

    choices: ClassVar[tuple[str, ...]] = (VIDEO, AUDIO)
    model_class: ClassVar[str] = "ovmer.baselines.models.onellm:OneLlm"
    tokenizer_part: ClassVar[str] = "model"

    # `v1` (data/conversation_lib.py). The clip goes between the start token and the text.
    template: ClassVar[tuple[str, ...]] = (
        "",
        f"{VICUNA_SYSTEM}\n\n###Human: {{question}}\n###Assistant:",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bug_compat:
            self.transformers_only = (  # type: ignore[misc]
                "with bug_compat=true the end of the prompt is taken out of the cache"
            )

    @property
    def load_options(self) -> Mapping[str, Any]:
        return {"forgetful": self.bug_compat}

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        from ovmer.baselines.models.onellm import OneLlmInputs, mel_picture, views
        from ovmer.baselines.models.onellm_projection import MEL_FRAMES

        notes: tuple[str, ...] = ()
        if VIDEO in self.modalities:
            sense, signal = VIDEO, views(read_frames(require_video(video), look_at).pixels)
        else:
            sound = listen(require_audio(audio))
            sense, signal = AUDIO, mel_picture(sound)
            if len(sound) >= FRAME + MEL_FRAMES * SHIFT:
                notes = ("the model hears the first 10.2 seconds of a sound; this one is longer",)
        question, cut = self.fit_question(subtitle, self.sizes.positions, self.prompts[sense])
        return Prepared(OneLlmInputs(self.texts(question), sense, signal), notes + cut)


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
