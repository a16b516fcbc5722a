"""HumanOmni and the R1-Omni models made from it: a clip's picture and sound, and its subtitle.

Of a clip that lacks one of the two the other is described, with a note (see `audio_visual`). The
authors' code makes ten seconds of silence where there is no sound: `quirks=paper`.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ovmer.adapters.audio_visual import BOTH, AudioVisual
from ovmer.adapters.base import AUDIO, Answer, Machine, Prepared
from ovmer.adapters.media import Samples, read_frames, read_sound
from ovmer.adapters.media.sampling import segment_centres
from ovmer.adapters.mllm import Model
from ovmer.adapters.registry import near, register
from ovmer.adapters.thinking import CHOICES, CUT_WHILE_THINKING, split_thinking
from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.errors import CheckpointError, ClipError, PrerequisiteError
from ovmer.baselines.tokenizer import BertTokenizer, Tokenizer

if TYPE_CHECKING:
    from ovmer.baselines.chat import ChatTokenizer
    from ovmer.baselines.decoding.answers import Generated
    from ovmer.baselines.device import Place
    from ovmer.baselines.models.humanomni import Sizes

_PROJECTORS = {"all_in_one_small": "0.5B", "all_in_one": "7B"}
"""The connectors (`mm_projector_type` in config.json), and the size of their models."""

_SLOT = "\0"
_SILENT_SECONDS = 10  # of upstream's mm_utils.py, where a clip has no sound
_SILENCE = "the clip has no sound; as in the authors' code the model was given 10 s of silence"
_LONG = "the sound lasts longer than the 30 seconds that the model hears"


@register("humanomni")
@dataclass
class HumanOmniAdapter(AudioVisual):
    """A released checkpoint. `quirks=paper`: a clip without sound is given silence."""

    projector: str = "all_in_one_small"
    thinking: str = "auto"
    """Format of the thinking part of an answer, see thinking.py."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, value, known in (
            ("projector", self.projector, tuple(_PROJECTORS)),
            ("thinking", self.thinking, CHOICES),
        ):
            if value not in known:
                raise PrerequisiteError(f"baseline.{key} is {value!r}; {near(value, known)}")

    @cached_property
    def _folders(self) -> tuple[Path, Path, Path, Path]:
        """Main folder, SigLIP, Whisper, BERT. Raises CheckpointError for another size."""
        from ovmer.baselines.models.humanomni import HumanOmniConfig

        parts = self.parts
        main = parts["model"]
        if (found := HumanOmniConfig.read(main).projector) != self.projector:
            raise CheckpointError(
                f"{main} holds a HumanOmni of {_PROJECTORS[found]}, but the baseline is of "
                f"{_PROJECTORS[self.projector]}; correct baseline.checkpoint.model.path, or choose "
                "the baseline of that size"
            )
        return main, parts["siglip"], parts["whisper"], parts["bert"]

    @cached_property
    def _sizes(self) -> "Sizes":
        from ovmer.baselines.models.humanomni import Sizes

        return Sizes.read(*self._folders)

    @cached_property
    def _words(self) -> BertTokenizer:
        return BertTokenizer(self._folders[-1] / "vocab.txt")

    def read_tokenizer(self) -> Tokenizer:
        from transformers import Qwen2Config

        from ovmer.baselines.chat import ChatTokenizer

        tokenizer = ChatTokenizer(self._folders[0], Qwen2Config())
        tokenizer.encode("")  # settles how it encodes, which threads must not do side by side
        return tokenizer

    def load(self, machine: Machine) -> None:
        """With the penalty on repetition that the checkpoint asks for, unless the preset has one.

        Upstream's `generate` reads generation_config.json, of which only this changes greedy ids.
        """
        file = self._folders[0] / "generation_config.json"
        asked = read_json(file.parent, file.name) if file.is_file() else {}
        penalty = float(asked.get("repetition_penalty") or 1.0)
        if self.generation.repetition_penalty == 1.0 != penalty:
            self.generation = replace(self.generation, repetition_penalty=penalty)
            self._penalty_note: tuple[str, ...] = (
                f"repetition_penalty is {penalty:g}, as generation_config.json of the checkpoint "
                "has it",
            )
        super().load(machine)

    @property
    def load_notes(self) -> tuple[str, ...]:
        return (*super().load_notes, *getattr(self, "_penalty_note", ()))

    def build(self, place: "Place") -> Model:
        from ovmer.baselines.models.humanomni import HumanOmni

        return HumanOmni.load(*self._folders, place)

    def write_miniature(self, folder: Path, seed: int) -> dict[str, Path]:
        from ovmer.baselines.models.humanomni import write_miniature

        return write_miniature(folder, seed, self.projector)

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        import torch

        from ovmer.baselines.layers.whisper import log_mel
        from ovmer.baselines.models.humanomni import HumanOmniInputs

        seen, heard, prompt, notes = self.perceive(video, audio, self._look, listen)
        if heard is None and AUDIO in self.modalities and self.quirks == "paper":
            heard, prompt, notes = silence(), self.prompts[BOTH], (_SILENCE,)
        if heard is not None and len(heard) > _longest():
            notes += (_LONG,)
        fixed = self._sizes.seen * (seen is not None) + self._sizes.heard * (heard is not None)
        there = {"seen": seen is not None, "heard": heard is not None}
        question, cut = self.ask(
            subtitle,
            self._sizes.context - self.generation.max_new_tokens,
            lambda question: fixed + sum(map(len, self._texts(question, **there))),
            prompt,
        )
        inputs = HumanOmniInputs(
            self._texts(question, **there),
            question_ids(self._words, question, self._sizes.question),
            None if seen is None else torch.from_numpy(seen),
            None if heard is None else log_mel(heard, self._sizes.mel_bins),
        )
        return Prepared(inputs, notes + cut)

    def _look(self, path: Path) -> NDArray[np.uint8]:
        from ovmer.baselines.layers.siglip import stretch

        frames = read_frames(path, lambda count, _: segment_centres(count, self._sizes.frames))
        return stretch(frames.pixels, self._sizes.side)

    def _texts(self, question: str, *, seen: bool, heard: bool) -> list[list[int]]:
        """The token ids before, between and after what is seen and heard."""
        tokenizer: ChatTokenizer = self.tokenizer  # type: ignore[assignment]
        texts = pieces(question, seen=seen, heard=heard, has_tags=self._sizes.has_tags)
        return tokenizer.chat_around(texts)

    def clean(self, text: str) -> str:
        """What upstream's mm_infer leaves of an answer; line breaks stay."""
        return text.strip()

    def _told(self, answer: "Generated | ClipError") -> Answer | ClipError:
        """The answer without its thinking, which is recorded beside it."""
        told = super()._told(answer)
        if isinstance(told, ClipError):
            return told
        thinking, text = split_thinking(told.text, thinking_format=self.thinking)
        cut = (CUT_WHILE_THINKING,) if thinking and not text else ()
        return replace(told, text=text, thinking=thinking, notes=cut)


def pieces(question: str, *, seen: bool, heard: bool, has_tags: bool) -> list[str]:
    """The texts of the user's message around the slots: picture, then sound."""
    tags = [tag for tag, there in (("vi", seen), ("au", heard)) if there]
    slots = [f"<{tag}_start>{_SLOT}<{tag}_end>" if has_tags else _SLOT for tag in tags]
    *before, after = "\n".join(slots).split(_SLOT)
    return [*before, f"{after}\n{question}"]


def question_ids(words: BertTokenizer, question: str, most: int) -> list[int]:
    """[CLS], the ids of the question, [SEP]; of a longer one the beginning, `most` ids in all."""
    ids = words.encode(question, len(question) + 2)
    return [*ids[: most - 1], ids[-1]] if len(ids) > most else ids


def listen(path: Path) -> Samples:
    """Samples [n] at 16 kHz of the first 30 seconds, and one more, so that a longer sound is told.

    Of two channels it is their sum divided by the root of two: so does ffmpeg mix floating-point
    samples, through which decord reads for the authors. More channels are averaged.
    """
    from ovmer.baselines.layers.whisper import LONGEST_SECONDS, SAMPLE_RATE

    sound = read_sound(path, SAMPLE_RATE, channels="all", max_seconds=LONGEST_SECONDS + 1)
    mixed: Samples = sound.mean(axis=0) * (np.sqrt(2, dtype=np.float32) if len(sound) == 2 else 1)
    return mixed


def silence() -> Samples:
    """What upstream hears of a clip without sound."""
    from ovmer.baselines.layers.whisper import SAMPLE_RATE

    return np.zeros(_SILENT_SECONDS * SAMPLE_RATE, np.float32)


def _longest() -> int:
    from ovmer.baselines.layers.whisper import LONGEST_SECONDS, SAMPLE_RATE

    return LONGEST_SECONDS * SAMPLE_RATE
