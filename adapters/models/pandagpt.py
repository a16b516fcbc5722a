"""PandaGPT: a clip's picture, its sound or both, and its subtitle.

What a clip lacks is told in `audio_visual`. Its sound file is heard, or the video's own track.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ovmer.adapters.audio_visual import AudioVisual
from ovmer.adapters.base import Prepared
from ovmer.adapters.media import Samples, read_frames, read_windows
from ovmer.adapters.media.sampling import windows
from ovmer.adapters.mllm import Model
from ovmer.adapters.registry import register
from ovmer.baselines.checkpoint import file_of, read_json
from ovmer.baselines.layers.kaldi_fbank import SAMPLE_RATE
from ovmer.baselines.tokenizer import LlamaTokenizer

if TYPE_CHECKING:
    from ovmer.baselines.decoding.answers import Generated
    from ovmer.baselines.device import Place

# `load_and_transform_video_data` and `..._audio_data` of PandaGPT's copy of ImageBind.
_VIDEO_CLIPS, _AUDIO_CLIPS = 5, 3

# openllama.py, `prepare_generation_embedding`; the two are tokenised one by one.
BEFORE = "### Human: <Img>"
AFTER = "</Img> {question}\n### Assistant:"
# "##" in LLaMA's vocabulary, the beginning of the next "### Human:"; any ends an answer.
_STOP_ID = 2277


@register("pandagpt")
@dataclass
class PandaGptAdapter(AudioVisual):
    """The published model. `quirks=paper` loses the end of an answer as the authors' code does,
    which takes off two ids, on the assumption that they are a line break and "##"."""

    def read_tokenizer(self) -> LlamaTokenizer:
        tokenizer = LlamaTokenizer(self.parts["llm"] / "tokenizer.model")
        tokenizer.stop_ids = (tokenizer.eos_id, _STOP_ID)
        return tokenizer

    def build(self, place: "Place") -> Model:
        from ovmer.baselines.layers.imagebind import IMAGEBIND_FILE
        from ovmer.baselines.models.pandagpt import CONNECTOR_FILE, PandaGpt

        return PandaGpt.load(
            connector=file_of(self.parts["connector"], CONNECTOR_FILE),
            llm=self.parts["llm"],
            imagebind=file_of(self.parts["imagebind"], IMAGEBIND_FILE),
            place=place,
        )

    def write_miniature(self, folder: Path, seed: int) -> dict[str, Path]:
        from ovmer.baselines.models.pandagpt import write_miniature

        return write_miniature(folder, seed)

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        from ovmer.baselines.layers.imagebind import mel_pictures, views
        from ovmer.baselines.models.pandagpt import PandaGptInputs

        seen, heard, prompt, notes = self.perceive(
            video,
            audio,
            lambda path: views(read_frames(path, look_at).pixels),
            lambda path: mel_pictures(listen(path)),
        )
        question, cut = self.ask(
            subtitle,
            self._context - self.generation.max_new_tokens,
            lambda question: 1 + sum(map(len, self._texts(question))),
            prompt,
        )
        return Prepared(PandaGptInputs(self._texts(question), seen, heard), notes + cut)

    def said(self, answer: "Generated") -> str:
        if self.quirks == "none":
            return super().said(answer)
        stopped = len(answer.ids) < self.generation.max_new_tokens
        kept = answer.ids[: -1 if stopped else -2]  # the id that stopped it is off already
        return self.clean(self.tokenizer.decode(kept))

    def _texts(self, question: str) -> list[list[int]]:
        """The token ids before and after the one vector."""
        encode = self.tokenizer.encode
        after = encode(AFTER.replace("{question}", question))
        return [[self.tokenizer.bos_id, *encode(BEFORE)], after]

    @cached_property
    def _context(self) -> int:
        from ovmer.baselines.llama import llama_config

        return int(llama_config(read_json(self.parts["llm"])).max_position_embeddings)


def look_at(count: int, fps: float) -> list[int]:
    """The indices of the first and last frame of five stretches of 2 s, the last at the end."""
    return windows(count, fps, 2, _VIDEO_CLIPS, 2, reach_end=True)


def listen(path: Path) -> list[Samples]:
    """Three stretches of 2 s at 16 kHz, the last at the end."""
    return read_windows(path, SAMPLE_RATE, 2, _AUDIO_CLIPS, reach_end=True)
