"""HumanOmni and the R1-Omni models made from it: a clip's picture and sound, and its subtitle.

Of a clip that lacks one of the two the other is described, with a note (see `audio_visual`). The
authors' code makes ten seconds of silence where there is no sound, which `bug_compat` does as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ovmer.adapters.audio_visual import BOTH, AudioVisual
from ovmer.adapters.base import AUDIO, Answer, Machine, Prepared
from ovmer.adapters.media import Samples, read_frames, read_sound
from ovmer.adapters.media.sampling import segment_centres
from ovmer.adapters.registry import register
from ovmer.adapters.thinking import check_format, without_thinking
from ovmer.baselines.checkpoint import locate, read_json
from ovmer.baselines.errors import CheckpointError, PrerequisiteError, near
from ovmer.baselines.tokenizer import BertTokenizer, Tokenizer

if TYPE_CHECKING:
    from ovmer.baselines.chat import ChatTokenizer
    from ovmer.baselines.decoding.answers import Generated

_PROJECTORS = {"all_in_one_small": "0.5B", "all_in_one": "7B"}
"""The connectors (`mm_projector_type` in config.json), and the size of their models."""

_SLOT = "\0"
_SILENT_SECONDS = 10  # of upstream's mm_utils.py, where a clip has no sound
_SILENCE = "the clip has no sound; as in the authors' code the model was given 10 s of silence"
_LONG = "the sound lasts longer than the 30 seconds that the model hears"


@register("humanomni")
@dataclass
class HumanOmniAdapter(AudioVisual):
    """A released checkpoint. With `bug_compat` a clip without sound gets silence."""

    projector: str = "all_in_one_small"
    thinking: str = "auto"
    """Format of the thinking part of an answer, see thinking.py."""

    model_class: ClassVar[str] = "ovmer.baselines.models.humanomni:HumanOmni"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_format(self.thinking)
        if self.projector not in _PROJECTORS:
            raise PrerequisiteError(
                f"baseline.projector is {self.projector!r}; {near(self.projector, _PROJECTORS)}"
            )

    @cached_property
    def parts(self) -> dict[str, Path]:
        """Path of each part of the checkpoint. Raises CheckpointError for one of another size."""
        parts = locate(self.checkpoint, self.needed_parts, self._weights, self._baseline)
        found = read_json(parts["model"]).get("mm_projector_type")
        if found in _PROJECTORS and found != self.projector:
            raise CheckpointError(
                f"{parts['model']} holds a HumanOmni of {_PROJECTORS[found]}, but the baseline is "
                f"of {_PROJECTORS[self.projector]}; correct baseline.checkpoint.model.path, or "
                "choose the baseline of that size"
            )
        return parts

    @cached_property
    def _words(self) -> BertTokenizer:
        return BertTokenizer(self.parts["bert"] / "vocab.txt")

    def read_tokenizer(self) -> Tokenizer:
        from transformers import Qwen2Config

        from ovmer.baselines.chat import ChatTokenizer

        return ChatTokenizer(self.parts["model"], Qwen2Config())

    def texts(self, question: str, template: Sequence[str] | None = None) -> list[list[int]]:
        """The token ids before, between and after the slots, in the checkpoint's chat template."""
        tokenizer: ChatTokenizer = self.tokenizer  # type: ignore[assignment]
        return tokenizer.chat_around(
            [text.replace("{question}", question) for text in template or self.template]
        )

    def load(self, machine: Machine) -> None:
        """Load with the checkpoint's penalty on repetition, unless the preset has one.

        Upstream's `generate` reads generation_config.json, of which only this changes greedy ids.
        """
        file = self.parts["model"] / "generation_config.json"
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

    def write_miniature(self, folder: Path, seed: int) -> dict[str, Path]:
        from ovmer.baselines.models.humanomni import write_miniature

        return write_miniature(folder, seed, self.projector, thinks=self.thinking != "none")

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        import torch

        from ovmer.baselines.layers.whisper import log_mel
        from ovmer.baselines.models.humanomni import HumanOmniInputs

        seen, heard, prompt, notes = self.perceive(video, audio, self._look, listen)
        if heard is None and AUDIO in self.modalities and self.bug_compat:
            heard, prompt, notes = silence(), self.prompts[BOTH], (_SILENCE,)
        if heard is not None and len(heard) > _longest():
            notes += (_LONG,)
        sizes = self.sizes
        positions = sizes.positions * (seen is not None) + sizes.heard * (heard is not None)
        template = pieces(seen=seen is not None, heard=heard is not None, has_tags=sizes.has_tags)
        question, cut = self.fit_question(subtitle, positions, prompt, template)
        inputs = HumanOmniInputs(
            self.texts(question, template),
            question_ids(self._words, question, sizes.question),
            None if seen is None else torch.from_numpy(seen),
            None if heard is None else log_mel(heard, sizes.mel_bins),
        )
        return Prepared(inputs, notes + cut)

    def _look(self, path: Path) -> NDArray[np.uint8]:
        from ovmer.baselines.layers.siglip import stretch

        frames = read_frames(path, lambda count, _: segment_centres(count, self.sizes.frames))
        return stretch(frames.pixels, self.sizes.image)

    def clean(self, text: str) -> str:
        """Strip the answer as upstream's mm_infer does; line breaks stay."""
        return text.strip()

    def to_answer(self, generated: "Generated", item: Prepared) -> Answer:
        return without_thinking(generated, self.thinking, self.clean)


def pieces(*, seen: bool, heard: bool, has_tags: bool) -> list[str]:
    """Texts of the user's message around the slots: picture, then sound."""
    tags = [tag for tag, there in (("vi", seen), ("au", heard)) if there]
    slots = [f"<{tag}_start>{_SLOT}<{tag}_end>" if has_tags else _SLOT for tag in tags]
    return "\n".join([*slots, "{question}"]).split(_SLOT)


def question_ids(words: BertTokenizer, question: str, most: int) -> list[int]:
    """[CLS], the ids of the question, [SEP]; of a longer one the beginning, `most` ids in all."""
    ids = words.encode(question, len(question) + 2)
    return [*ids[: most - 1], ids[-1]] if len(ids) > most else ids


def listen(path: Path) -> Samples:
    """Read mono samples [n] at 16 kHz: 31 seconds at most, so that a longer sound is noticed.

    Two channels are mixed to (L + R) / sqrt(2), as ffmpeg, and so decord, does for the authors
    where samples are floating-point numbers. More channels are averaged.
    """
    from ovmer.baselines.layers.whisper import LONGEST_SECONDS, SAMPLE_RATE

    sound = read_sound(path, SAMPLE_RATE, channels="all", max_seconds=LONGEST_SECONDS + 1)
    mixed: Samples = sound.mean(axis=0) * (np.sqrt(2, dtype=np.float32) if len(sound) == 2 else 1)
    return mixed


def silence() -> Samples:
    """The samples that upstream makes for a clip without sound."""
    from ovmer.baselines.layers.whisper import SAMPLE_RATE

    return np.zeros(_SILENT_SECONDS * SAMPLE_RATE, np.float32)


def _longest() -> int:
    from ovmer.baselines.layers.whisper import LONGEST_SECONDS, SAMPLE_RATE

    return LONGEST_SECONDS * SAMPLE_RATE
