"""Video-LLaMA: a clip's picture, its sound or both, and its subtitle.

What a clip lacks is told in `audio_visual`. Its sound file is heard, or the video's own track.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ovmer.adapters.audio_visual import AudioVisual
from ovmer.adapters.base import AUDIO, VIDEO, Prepared
from ovmer.adapters.media import Frames, Samples, read_frames, read_windows
from ovmer.adapters.media.sampling import strided
from ovmer.adapters.mllm import Model
from ovmer.adapters.models.videochat import time_message
from ovmer.adapters.registry import register
from ovmer.baselines.checkpoint import file_of
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.layers.kaldi_fbank import SAMPLE_RATE
from ovmer.baselines.tokenizer import LlamaTokenizer

if TYPE_CHECKING:
    from ovmer.baselines.device import Place
    from ovmer.baselines.models.video_llama import HearingFiles, SeeingFiles, Sizes

# conversation_video.py, `upload_video` and `upload_video_without_audio`, in the template of Llama 2
# with an empty system text; each piece is tokenised by itself. The runs of blanks are the
# indentation of a line of source that goes on inside a string, and part of the prompt.
_START = "[INST] <<SYS>>\n\n<</SYS>>\n\n"
_EARS = "Close your eyes, open your ears and you imagine only based on the sound that: "
_INDENT = " " * 16
_END = " {question} [/INST]"
_PIECES = {
    (False, True): (
        f"{_START}<Video>",
        f"</Video> {{times}} {_END}",
    ),
    (True, True): (
        f"{_START}{_EARS}",
        f". {_INDENT}Close your ears, open your eyes and you see that <Video>",
        f"</Video>.  {_INDENT}Now answer my question based on what you have just seen and heard."
        f"{_END}",
    ),
    # Upstream knows no sound without picture; this is its text for both without what is seen.
    (True, False): (
        f"{_START}{_EARS}",
        f". {_INDENT}Now answer my question based on what you have just heard.{_END}",
    ),
}
"""(is the clip heard, is it seen) -> the text before, between and after: sound, then picture."""

_AUDIO_CLIPS = 8  # `upload_video`, and the places of the audio branch
_MOST_FRAMES = 32  # the places of the vision branch
_LONGEST = 2000  # `Chat.answer`: prompt and answer together

_LLM_FOLDER = "llama-2-7b-chat-hf"
_NEEDED = {VIDEO: ("vision", "qformer", "seeing"), AUDIO: ("imagebind", "hearing")}


@register("video_llama")
@dataclass
class VideoLlamaAdapter(AudioVisual):
    """The published model. Of what is not wanted (`modalities`) no weights are looked for."""

    frames: int = 8

    known_quirks: ClassVar[tuple[str, ...]] = ("none",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.frames <= _MOST_FRAMES:
            raise PrerequisiteError(
                f"baseline.frames is {self.frames} but the model takes 1 to {_MOST_FRAMES}"
            )

    @property
    def needed_parts(self) -> list[str]:
        needed = [_NEEDED[medium] for medium in _NEEDED if medium in self.modalities]
        return list(chain(["llm"], *needed))

    @cached_property
    def _llm(self) -> Path:
        """The folder of the language model, which the hub's repository has within it."""
        folder = self.parts["llm"]
        within = folder / _LLM_FOLDER
        return within if within.is_dir() else folder

    @cached_property
    def _files(self) -> "tuple[SeeingFiles | None, HearingFiles | None, Path]":
        """The files of the wanted branches, and the folder of the language model."""
        from ovmer.baselines.layers.eva_vit import EVA_FILE
        from ovmer.baselines.layers.imagebind import IMAGEBIND_FILE
        from ovmer.baselines.layers.qformer import BLIP2_FILE
        from ovmer.baselines.models.video_llama import (
            HEARING_FILE,
            SEEING_FILE,
            HearingFiles,
            SeeingFiles,
        )

        parts, seeing, hearing = self.parts, None, None
        if VIDEO in self.modalities:
            seeing = SeeingFiles(
                file_of(parts["vision"], EVA_FILE),
                file_of(parts["qformer"], BLIP2_FILE),
                file_of(parts["seeing"], SEEING_FILE),
            )
        if AUDIO in self.modalities:
            hearing = HearingFiles(
                file_of(parts["imagebind"], IMAGEBIND_FILE),
                file_of(parts["hearing"], HEARING_FILE),
            )
        return seeing, hearing, self._llm

    @cached_property
    def _sizes(self) -> "Sizes":
        from ovmer.baselines.models.video_llama import Sizes

        return Sizes.read(*self._files)

    def read_tokenizer(self) -> LlamaTokenizer:
        return LlamaTokenizer(self._llm / "tokenizer.model")

    def build(self, place: "Place") -> Model:
        from ovmer.baselines.models.video_llama import VideoLlama

        return VideoLlama.load(*self._files, place)

    def write_miniature(self, folder: Path, seed: int) -> dict[str, Path]:
        from ovmer.baselines.models.video_llama import write_miniature

        return write_miniature(folder, seed)

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        import torch

        from ovmer.baselines.layers.imagebind import mel_pictures
        from ovmer.baselines.models.video_llama import VideoLlamaInputs

        seen, heard, prompt, notes = self.perceive(
            video, audio, self._look, lambda path: mel_pictures(listen(path))
        )
        fixed = self._sizes.seen * (seen is not None) + self._sizes.heard * (heard is not None)
        question, cut = self.ask(
            subtitle,
            min(self._sizes.context, _LONGEST) - self.generation.max_new_tokens,
            lambda question: fixed + sum(map(len, self._texts(question, seen, heard is not None))),
            prompt,
        )
        texts = self._texts(question, seen, heard is not None)
        frames = None if seen is None else torch.from_numpy(seen.pixels)
        return Prepared(VideoLlamaInputs(texts, frames, heard), notes + cut)

    def clean(self, text: str) -> str:
        """What follows the last `ASSISTANT:`, as one line."""
        return super().clean(text.rpartition("ASSISTANT:")[2])

    def _look(self, path: Path) -> Frames:
        side = self._sizes.image
        return read_frames(path, lambda count, _: strided(count, self.frames), size=(side, side))

    def _texts(self, question: str, seen: Frames | None, heard: bool) -> list[list[int]]:
        """The token ids before, between and after what is heard and seen."""
        encode = self.tokenizer.encode
        first, *rest = pieces(question, seen, heard)
        return [[self.tokenizer.bos_id, *encode(first)], *map(encode, rest)]


def pieces(question: str, seen: Frames | None, heard: bool) -> list[str]:
    """The texts around the slots."""
    times = "" if seen is None else time_message(seen.indices, seen.fps, numpys=False)
    return [
        text.replace("{times}", times).replace("{question}", question)
        for text in _PIECES[heard, seen is not None]
    ]


def listen(path: Path) -> list[Samples]:
    """Eight stretches of 2 s at 16 kHz, the last one well before the end."""
    return read_windows(path, SAMPLE_RATE, 2, _AUDIO_CLIPS)
