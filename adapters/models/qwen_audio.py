"""Qwen-Audio-Chat as the OV-MER authors ran it.

Sound and subtitle; a clip without sound is recorded as `missing_modality`. Of a long sound the
first 30 seconds are heard, and 30 milliseconds are the least: shorter ones are filled up with
silence (upstream fails on them).
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from ovmer.adapters.base import AUDIO, SUBTITLE, Prepared, require_audio
from ovmer.adapters.media import read_sound
from ovmer.adapters.mllm import Mllm
from ovmer.adapters.registry import register

if TYPE_CHECKING:
    from ovmer.baselines.decoding.answers import Generated
    from ovmer.baselines.device import Place
    from ovmer.baselines.models.qwen_audio import QwenAudio
    from ovmer.baselines.qwen import QwenTokenizer

# ChatML (make_context in qwen_generation_utils.py); `from_list_format` puts the sound first and
# numbers it, and its path stands where the tower's vectors go.
_SYSTEM = "system\nYou are a helpful assistant."
_BEFORE = "user\nAudio 1:"
_ANSWER = "assistant\n"


@register("qwen_audio")
@dataclass
class QwenAudioAdapter(Mllm):
    """The published chat model. `quirks=paper` loses the last token of an answer that is cut off at
    its greatest length, as upstream's code does, which takes it for an end token."""

    modalities: ClassVar[frozenset[str]] = frozenset({AUDIO, SUBTITLE})

    @cached_property
    def _context(self) -> int:
        from ovmer.baselines.models.qwen_audio import read_config
        from ovmer.baselines.qwen import qwen2_config

        return qwen2_config(read_config(self.parts["model"])).max_position_embeddings

    def read_tokenizer(self) -> "QwenTokenizer":
        from ovmer.baselines.models.qwen_audio import read_tokenizer

        return read_tokenizer(self.parts["model"])

    def build(self, place: "Place") -> "QwenAudio":
        from ovmer.baselines.models.qwen_audio import QwenAudio

        return QwenAudio.load(self.parts["model"], place)

    def write_miniature(self, folder: Path, seed: int) -> dict[str, Path]:
        from ovmer.baselines.models.qwen_audio import write_miniature

        return write_miniature(folder, seed)

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
        left, right, notes = self._texts(subtitle, slots(mel))
        if len(sound) > MAX_SECONDS * SAMPLE_RATE:
            notes += (f"only the first {MAX_SECONDS} seconds of the sound were heard",)
        return Prepared(QwenAudioInputs(left, mel, right), notes)

    def said(self, answer: "Generated") -> str:
        cut_off = len(answer.ids) == self.generation.max_new_tokens
        kept = answer.ids[:-1] if cut_off and self.quirks == "paper" else answer.ids
        return self.clean(self.tokenizer.decode(kept))

    def _texts(
        self, subtitle: str | None, slots: int
    ) -> tuple[list[int], list[int], tuple[str, ...]]:
        """The ids before and after the sound, and a note where the subtitle was cut."""
        tokens = cast("QwenTokenizer", self.tokenizer)
        start, end, line = [tokens.im_start_id], [tokens.im_end_id], tokens.encode("\n")
        left = start + tokens.encode(_SYSTEM) + end + line + start + tokens.encode(_BEFORE)

        def right(question: str) -> list[int]:
            asked = tokens.encode("\n" + question)
            return asked + end + line + start + tokens.encode(_ANSWER)

        limit = self._context - self.generation.max_new_tokens
        fixed = len(left) + slots
        question, notes = self.ask(subtitle, limit, lambda text: fixed + len(right(text)))
        return left, right(question), notes
