"""PandaGPT: a clip's picture, its sound or both, and its subtitle.

What happens where a clip lacks one: see `audio_visual`. Its sound file is heard, or the video's
own track.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ovmer.adapters.audio_visual import AudioVisual
from ovmer.adapters.base import Prepared
from ovmer.adapters.media import Samples, read_frames, read_windows
from ovmer.adapters.media.sampling import windows
from ovmer.adapters.registry import register
from ovmer.baselines.layers.kaldi_fbank import SAMPLE_RATE
from ovmer.baselines.tokenizer import Tokenizer

if TYPE_CHECKING:
    from ovmer.baselines.decoding.answers import Generated

# `load_and_transform_video_data` and `..._audio_data` of PandaGPT's copy of ImageBind.
_VIDEO_CLIPS, _AUDIO_CLIPS = 5, 3

# "##" in LLaMA's vocabulary, the beginning of the next "### Human:"; any ends an answer.
_STOP_ID = 2277


@register("pandagpt")
@dataclass
class PandaGptAdapter(AudioVisual):
    """The published model. `bug_compat` loses the end of an answer as the authors' code does,
    which takes off two ids, on the assumption that they are a line break and "##"."""

    model_class: ClassVar[str] = "ovmer.baselines.models.pandagpt:PandaGpt"

    # openllama.py, `prepare_generation_embedding`; around the clip's one vector.
    template: ClassVar[tuple[str, ...]] = (
        "### Human: <Img>",
        "</Img> {question}\n### Assistant:",
    )

    def read_tokenizer(self) -> Tokenizer:
        tokenizer = super().read_tokenizer()
        tokenizer.stop_ids = (tokenizer.eos_id, _STOP_ID)
        return tokenizer

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        from ovmer.baselines.layers.imagebind import mel_pictures, views
        from ovmer.baselines.models.pandagpt import PandaGptInputs

        seen, heard, prompt, notes = self.perceive(
            video,
            audio,
            lambda path: views(read_frames(path, look_at).pixels),
            lambda path: mel_pictures(listen(path)),
        )
        question, cut = self.fit_question(subtitle, self.sizes.positions, prompt)
        return Prepared(PandaGptInputs(self.texts(question), seen, heard), notes + cut)

    def said(self, answer: "Generated") -> str:
        if not self.bug_compat:
            return super().said(answer)
        stopped = len(answer.ids) < self.generation.max_new_tokens
        kept = answer.ids[: -1 if stopped else -2]  # the id that stopped it is off already
        return self.clean(self.tokenizer.decode(kept))


def look_at(count: int, fps: float) -> list[int]:
    """The indices of the first and last frame of five stretches of 2 s, the last at the end."""
    return windows(count, fps, 2, _VIDEO_CLIPS, 2, reach_end=True)


def listen(path: Path) -> list[Samples]:
    """Three stretches of 2 s at 16 kHz, the last at the end."""
    return read_windows(path, SAMPLE_RATE, 2, _AUDIO_CLIPS, reach_end=True)
