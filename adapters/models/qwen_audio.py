"""Qwen-Audio-Chat as the OV-MER authors ran it.

Sound and subtitle; a clip without sound is recorded as `missing_modality`. Of a long sound the
first 30 seconds are heard, and 30 milliseconds are the least: shorter ones are filled up with
silence (upstream fails on them).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from ovmer.adapters.base import AUDIO, SUBTITLE, Prepared, require_audio
from ovmer.adapters.media import read_sound
from ovmer.adapters.mllm import Mllm
from ovmer.adapters.registry import register

if TYPE_CHECKING:
    from ovmer.baselines.decoding.answers import Generated
    from ovmer.baselines.qwen import QwenTokenizer

# ChatML (make_context in qwen_generation_utils.py); `from_list_format` puts the sound first and
# numbers it, and its path marks the positions of the tower's vectors.
_SYSTEM = "system\nYou are a helpful assistant."
_BEFORE = "user\nAudio 1:"
_ANSWER = "assistant\n"


@register("qwen_audio")
@dataclass
class QwenAudioAdapter(Mllm):
    """The published chat model. `bug_compat` loses the last token of an answer that is cut off at
    its greatest length, as upstream's code does, which takes it for an end token."""

    modalities: ClassVar[frozenset[str]] = frozenset({AUDIO, SUBTITLE})

    model_class: ClassVar[str] = "ovmer.baselines.models.qwen_audio:QwenAudio"

    def read_tokenizer(self) -> "QwenTokenizer":
        from ovmer.baselines.models.qwen_audio import read_tokenizer

        return read_tokenizer(self.parts["model"])

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        from ovmer.baselines.models.qwen_audio import (
            MAX_SECONDS,
            SAMPLE_RATE,
            QwenAudioInputs,
            preprocess,
            slots,
        )

        # Upstream has ffmpeg make it mono, 16 kHz and 16 bits; what is so already is the same here.
        # A second more than is heard, so that resampling does not see the cut.
        sound = read_sound(require_audio(audio), SAMPLE_RATE, max_seconds=MAX_SECONDS + 1)
        mel = preprocess(sound)
        question, notes = self.fit_question(subtitle, slots(mel))
        if len(sound) > MAX_SECONDS * SAMPLE_RATE:
            notes += (f"only the first {MAX_SECONDS} seconds of the sound were heard",)
        left, right = self.texts(question)
        return Prepared(QwenAudioInputs(left, mel, right), notes)

    def said(self, answer: "Generated") -> str:
        cut_off = len(answer.ids) == self.generation.max_new_tokens
        kept = answer.ids[:-1] if cut_off and self.bug_compat else answer.ids
        return self.clean(self.tokenizer.decode(kept))

    def texts(self, question: str, template: Sequence[str] | None = None) -> list[list[int]]:
        """The ids before and after the sound, with control tokens between the plain texts."""
        tokens = cast("QwenTokenizer", self.tokenizer)
        start, end, line = [tokens.im_start_id], [tokens.im_end_id], tokens.encode("\n")
        left = start + tokens.encode(_SYSTEM) + end + line + start + tokens.encode(_BEFORE)
        right = tokens.encode("\n" + question) + end + line + start + tokens.encode(_ANSWER)
        return [left, right]
