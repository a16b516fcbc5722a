"""SALMONN 7B as the OV-MER authors ran it: the sound of a clip and its subtitle, no picture.

A clip without sound is recorded as `missing_modality`; where there is no sound file, the video's
own track is heard. Of a longer sound the first 30 seconds count.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ovmer.adapters.base import AUDIO, SUBTITLE, Prepared, require_audio
from ovmer.adapters.media import Samples, read_sound
from ovmer.adapters.mllm import Mllm
from ovmer.adapters.registry import register

# The command line of the model's authors fills shorter sounds up with silence.
_SHORTEST_SECONDS = 1

# `bug_compat`: `max_length` in OV-MER's main-audio.py. With the transformers of their environment
# (4.49) it counts the prompt too.
_PAPER_MAX_LENGTH = 300
_PAPER_FAILS = "as in the authors' run the answer is empty, for their code fails on "

_FULL = "the sound fills the 30 seconds that the model hears; what may follow was not heard"


@register("salmonn")
@dataclass
class SalmonnAdapter(Mllm):
    """The published model. With `bug_compat` prompt and answer share 300 tokens, a sound shorter
    than a second is not filled up, and where the authors' code fails the answer is empty."""

    qformer_heads: int = 12

    modalities: ClassVar[frozenset[str]] = frozenset({AUDIO, SUBTITLE})

    model_class: ClassVar[str] = "ovmer.baselines.models.salmonn:Salmonn"

    # `USER: <Speech><SpeechHere></Speech> {}\nASSISTANT:`, split at the slot; each side is
    # tokenised as a text of its own (the authors' model.py).
    template: ClassVar[tuple[str, ...]] = (
        "USER: <Speech>",
        "</Speech> {question}\nASSISTANT:",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bug_compat:
            self.generation = replace(self.generation, max_length=_PAPER_MAX_LENGTH)

    @property
    def load_options(self) -> Mapping[str, Any]:
        return {"heads": self.qformer_heads}

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        from ovmer.baselines.layers.kaldi_fbank import SAMPLE_RATE
        from ovmer.baselines.models.salmonn import LONGEST_SECONDS, SalmonnInputs, preprocess

        sound = read_clip(require_audio(audio))
        question, notes = self.fit_question(subtitle, self.sizes.positions)
        texts = self.texts(question)
        if self.bug_compat:
            if failure := self._failure(sound, self.sizes.positions + sum(map(len, texts))):
                return Prepared(None, (failure,))
        else:
            sound = np.pad(sound, (0, max(0, _SHORTEST_SECONDS * SAMPLE_RATE - len(sound))))
        if len(sound) == LONGEST_SECONDS * SAMPLE_RATE:
            notes += (_FULL,)
        mel, fbank = preprocess(sound, self.sizes.mel_bins)
        return Prepared(SalmonnInputs(texts, mel, fbank), notes)

    def _failure(self, sound: Samples, prompt_tokens: int) -> str | None:
        """Why the authors' code gives no answer to a clip, if so."""
        from ovmer.baselines.layers.beats import SHORTEST_SAMPLES
        from ovmer.baselines.layers.kaldi_fbank import SAMPLE_RATE

        if len(sound) < SHORTEST_SAMPLES:
            return f"{_PAPER_FAILS}a sound of {1000 * len(sound) // SAMPLE_RATE} ms"
        if prompt_tokens >= _PAPER_MAX_LENGTH:
            return f"{_PAPER_FAILS}prompts of {_PAPER_MAX_LENGTH} tokens and more"
        return None


def read_clip(path: Path) -> Samples:
    """Samples [n] as SALMONN's code reads them: first channel, 30 s, resampled to 16 kHz by FFT."""
    from ovmer.baselines.layers.kaldi_fbank import SAMPLE_RATE
    from ovmer.baselines.models.salmonn import LONGEST_SECONDS

    return read_sound(
        path, SAMPLE_RATE, channels="first", resampling="fft", max_seconds=LONGEST_SECONDS
    )
