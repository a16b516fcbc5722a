"""Video-LLaMA: a clip's picture, its sound or both, and its subtitle.

`audio_visual` handles clips without picture or sound. The sound is the clip's sound file, or the
video's own track.
"""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import ClassVar

from ovmer.adapters.audio_visual import AudioVisual
from ovmer.adapters.base import AUDIO, VIDEO, Prepared
from ovmer.adapters.media import Frames, Samples, read_frames, read_windows
from ovmer.adapters.media.sampling import strided
from ovmer.adapters.models.videochat import time_message
from ovmer.adapters.registry import register
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.layers.kaldi_fbank import SAMPLE_RATE
from ovmer.baselines.tokenizer import LlamaTokenizer

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

_AUDIO_CLIPS = 8  # `upload_video`, and the positions of the audio branch
_MOST_FRAMES = 32  # the positions of the vision branch
_LONGEST = 2000  # `Chat.answer`: prompt and answer together

_NEEDED = {VIDEO: ("vision", "qformer", "seeing"), AUDIO: ("imagebind", "hearing")}


@register("video_llama")
@dataclass
class VideoLlamaAdapter(AudioVisual):
    """The published model. Of what is not wanted (`modalities`) no weights are looked for."""

    frames: int = 8

    model_class: ClassVar[str] = "ovmer.baselines.models.video_llama:VideoLlama"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.frames <= _MOST_FRAMES:
            raise PrerequisiteError(
                f"baseline.frames is {self.frames} but the model takes 1 to {_MOST_FRAMES}"
            )

    @property
    def own_parts(self) -> list[str]:
        needed = [_NEEDED[medium] for medium in _NEEDED if medium in self.modalities]
        return list(chain(["llm"], *needed))

    @property
    def prompt_limit(self) -> int:
        return min(self.sizes.context, _LONGEST) - self.generation.max_new_tokens

    def read_tokenizer(self) -> LlamaTokenizer:
        from ovmer.baselines.models.video_llama import llm_folder

        return LlamaTokenizer(llm_folder(self.parts["llm"]) / "tokenizer.model")

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        import torch

        from ovmer.baselines.layers.imagebind import mel_pictures
        from ovmer.baselines.models.video_llama import VideoLlamaInputs

        seen, heard, prompt, notes = self.perceive(
            video, audio, self._look, lambda path: mel_pictures(listen(path))
        )
        sizes = self.sizes
        positions = sizes.positions * (seen is not None) + sizes.heard * (heard is not None)
        template = pieces(seen, heard is not None)
        question, cut = self.fit_question(subtitle, positions, prompt, template)
        frames = None if seen is None else torch.from_numpy(seen.pixels)
        inputs = VideoLlamaInputs(self.texts(question, template), frames, heard)
        return Prepared(inputs, notes + cut)

    def clean(self, text: str) -> str:
        """The text after the last `ASSISTANT:`, as one line."""
        return super().clean(text.rpartition("ASSISTANT:")[2])

    def _look(self, path: Path) -> Frames:
        side = self.sizes.image
        return read_frames(path, lambda count, _: strided(count, self.frames), size=(side, side))


def pieces(seen: Frames | None, heard: bool) -> list[str]:
    """The texts around the slots, with the times of the frames in them."""
    times = "" if seen is None else time_message(seen.indices, seen.fps, numpys=False)
    return [text.replace("{times}", times) for text in _PIECES[heard, seen is not None]]


def listen(path: Path) -> list[Samples]:
    """Eight stretches of 2 s at 16 kHz, the last one well before the end."""
    return read_windows(path, SAMPLE_RATE, 2, _AUDIO_CLIPS)
