"""AffectGPT in all its released variants: a clip's faces or frames, its sound and its subtitle.

It was made for this very task: trained on labels and descriptions of MER-Caption+ or of OV-MERD,
so its rows are no zero-shot rows. A clip that lacks picture or sound is `missing_modality`: the
model has no prompt for one of them alone. Where there is no sound file, the video's own track is
heard.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ovmer.adapters.affectgpt_prompts import (
    FOR_CLIPS,
    QUESTION_TEXT,
    SUBTITLE_TEXT,
    Template,
)
from ovmer.adapters.base import (
    AUDIO,
    SUBTITLE,
    VIDEO,
    Prepared,
    require_audio,
    require_video,
)
from ovmer.adapters.media import Samples, read_frames, read_sound
from ovmer.adapters.media.sampling import strided, window_starts
from ovmer.adapters.mllm import Mllm
from ovmer.adapters.question import QuestionTemplate
from ovmer.adapters.registry import register
from ovmer.baselines.errors import CheckpointError, PrerequisiteError, near
from ovmer.baselines.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

FACE, FRAME = "face", "frame"
LABELS = "labels"


@dataclass(frozen=True)
class Release:
    """A released training run: its picture input, and the epoch that its authors test."""

    looks_at: str
    epoch: int


RELEASES: Mapping[str, Release] = {
    "mercaptionplus_outputhybird_bestsetup_bestfusion_face_lz": Release(FACE, 35),
    "mercaptionplus_outputhybird_bestsetup_bestfusion_frame_lz": Release(FRAME, 30),
    "ovmerd_outputhybird_bestsetup_bestfusion_face_lz": Release(FACE, 40),
    "ovmerd_outputhybird_bestsetup_bestfusion_frame_lz": Release(FRAME, 45),
    # The paper's, trained on MER-Caption+: for each test set the best of the epochs 30, 35, ... 60
    # by the test figure itself. 60 is the last, the default of the authors' script.
    "emercoarse_highlevelfilter4_outputhybird_bestsetup_bestfusion_lz": Release(FACE, 60),
}
"""By the names in the READMEs of MERTools (MER2025_Track23) and, the last, AffectGPT."""

# `n_frms` in the released configurations, `clips_per_video` in base_dataset.py.
FRAMES, _STRETCHES = 8, 8
# Prompt and answer together (`max_length` of Chat.answer_sample). Of a longer prompt upstream drops
# the beginning, with picture and sound; here the subtitle is cut.
_MAX_LENGTH = 2000


@register("affectgpt")
@dataclass
class AffectGptAdapter(Mllm):
    """A released checkpoint, asked for labels or for a description.

    `bug_compat` changes nothing: that faces come with blue and red swapped, and that
    weights are not normalised, was so in training too.
    """

    release: str = "mercaptionplus_outputhybird_bestsetup_bestfusion_frame_lz"
    epoch: int | None = None
    """None is the one that the authors test."""
    prefusion: bool = True
    """Whether the prompt has the slot for picture and sound in one."""
    prompted: str | None = None
    """The template that the weights were trained with (`face_or_frame` upstream), for weights of
    `ovmer train`; None is the release's."""
    frames: int = FRAMES
    """How many the weights were trained with."""
    asks_for: str = LABELS
    requests: dict[str, str] = field(default_factory=lambda: {LABELS: ""})
    """Replacement for `{request}` in the prompt, by `asks_for`."""

    labels_in_sentence: ClassVar[bool] = True  # "The character's emotional state is a, b, c."
    model_class: ClassVar[str] = "ovmer.baselines.models.affectgpt:AffectGpt"

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, value, known in (
            ("release", self.release, RELEASES),
            ("asks_for", self.asks_for, self.requests),
        ):
            if value not in known:
                raise PrerequisiteError(f"baseline.{key} is {value!r}; {near(value, known)}")
        if self.prompted is not None and self.prompted not in FOR_CLIPS:
            raise PrerequisiteError(
                f"baseline.prompted is {self.prompted!r}; {near(self.prompted, FOR_CLIPS)}"
            )
        self.modalities = frozenset(self._modalities())  # type: ignore[misc]  # as the template
        self.answers_with_labels = self.asks_for == LABELS  # type: ignore[misc]  # as is asked
        trained = self.checkpoint.get("trained")
        if trained is not None and not trained.files:  # of some gigabytes in the repository
            wanted = f"*{self.release}*{_name(self._epoch)}"
            self.checkpoint = {**self.checkpoint, "trained": replace(trained, files=[wanted])}

    def read_tokenizer(self) -> Tokenizer:
        from ovmer.baselines.chat import ChatTokenizer

        return ChatTokenizer(self.parts["llm"])

    @property
    def load_options(self) -> Mapping[str, Any]:
        return {"trained": checkpoint_file(self.parts["trained"], self.release, self._epoch)}

    @property
    def prompt_limit(self) -> int:
        return _MAX_LENGTH - self.generation.max_new_tokens

    @property
    def template(self) -> Sequence[str]:  # type: ignore[override]  # by what the weights look at
        *texts, last = self._template.texts
        # The text after the last slot is a setting: the subtitle and the question.
        return [*texts, last.replace(SUBTITLE_TEXT, "").replace(QUESTION_TEXT, "{question} ")]

    @cached_property
    def _template(self) -> Template:
        looks_at = RELEASES[self.release].looks_at
        fused = f"multi{looks_at}_audio_{looks_at}_text"
        return Template.of(self.prompted or (fused if self.prefusion else looks_at))

    def _modalities(self) -> Iterator[str]:
        reads = self._template.reads
        if {FACE, FRAME} <= reads:
            raise PrerequisiteError(
                f"the template {self._template.name} reads faces and frames, and a data set gives "
                "one of them; choose weights with another"
            )
        if AUDIO in reads:
            yield AUDIO
        if reads - {AUDIO}:
            yield VIDEO
        if self._template.has_subtitle:
            yield SUBTITLE

    def write_miniature(self, folder: Path, seed: int) -> dict[str, Path]:
        from ovmer.baselines.models.affectgpt_miniature import write_miniature

        name = _name(self._epoch).replace("*", "loss_0.000")
        parts = write_miniature(folder, seed, f"{self.release}/{name}", self.checkpoint)
        return {**parts, "trained": parts["trained"].parent}

    def asking(self, question: str) -> Self:
        """The question replaces the authors' request; the text around it stays."""
        asked = copy(self)
        asked.requests = dict.fromkeys(self.requests, question)
        return asked

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        import torch

        from ovmer.baselines.models.affectgpt import AffectGptInputs, preprocess

        reads = self._template.reads
        frames = sound = None
        for wanted in reads - {AUDIO}:
            weights = self.prompted or self.release
            pixels = look_for(wanted, require_video(video), self.frames, weights)
            frames = torch.from_numpy(pixels)
        if AUDIO in reads:
            sound = preprocess(listen(require_audio(audio)), self._ready)
        slots = len(self.template) - 1  # of one position each, or a few with a Q-Former
        question, notes = self.fit_question(subtitle, slots, self._question)
        slots_in_order = tuple(self._template.slots)
        return Prepared(AffectGptInputs(self.texts(question), frames, sound, slots_in_order), notes)

    def clean(self, text: str) -> str:
        """The answer as Chat.answer_sample cleans it; line breaks stay."""
        return text.rsplit("###", 1)[0].split("Assistant:")[-1].strip()

    def texts(self, question: str, template: Sequence[str] | None = None) -> list[list[int]]:
        """The token ids before, between and after the slots; there is no start token."""
        encode = self.tokenizer.encode
        return [encode(text.replace("{question}", question)) for text in template or self.template]

    @cached_property
    def _ready(self) -> "Callable[[Tensor], Tensor]":
        from ovmer.baselines.models.affectgpt_encoders import sound_input

        return sound_input(self.parts["hubert"])

    @cached_property
    def _question(self) -> QuestionTemplate:
        return self.prompt.replaced("{request}", self.requests[self.asks_for])

    @property
    def _epoch(self) -> int:
        return RELEASES[self.release].epoch if self.epoch is None else self.epoch


def _name(epoch: int) -> str:
    return f"checkpoint_{epoch:06d}_*.pth"


def checkpoint_file(path: Path, release: str, epoch: int) -> Path:
    """The checkpoint of a release and epoch, at any depth of a folder, or the file `path` itself.

    Raises CheckpointError where there is none, or several, or where `path` is another release's.
    """
    others = [name for name in RELEASES if name != release]
    if other := next((name for name in others if name in str(path)), None):
        raise CheckpointError(f"{path} is of {other}; say baseline.release={other}")
    if path.is_file():
        return path
    found = [
        file
        for file in sorted(path.rglob("checkpoint_*.pth"))
        if not any(name in str(file) for name in others)
    ]
    chosen = [file for file in found if file.match(_name(epoch))]
    if len(chosen) == 1:
        return chosen[0]
    there = ", ".join(file.name for file in chosen or found) or "none"
    raise CheckpointError(
        f"{path} should hold one {_name(epoch)} of {release} but holds {there}; set "
        "baseline.epoch, or baseline.checkpoint.trained.path to the file itself"
    )


def look_at(count: int, fps: float, frames: int = FRAMES) -> list[int]:
    """Indices in even steps from the first on; the last is repeated for short clips."""
    indices = strided(count, frames)
    return indices + indices[-1:] * (frames - len(indices))


def look(path: Path, release: str) -> NDArray[np.uint8]:
    """A release's picture input, 8 x 224 x 224 x 3; see `look_for`."""
    return look_for(RELEASES[release].looks_at, path, FRAMES, release)


def look_for(wanted: str, path: Path, frames: int, weights: str) -> NDArray[np.uint8]:
    """`frames` x 224 x 224 x 3: frames in RGB, or faces as they are stored, blue first.

    Upstream's load_face never turns the faces to RGB, in training as afterwards. Raises
    PrerequisiteError where frames are given to weights that look at faces, or the reverse.
    """
    from ovmer.baselines.models.affectgpt_encoders import SIDE

    given = FACE if path.suffix == ".npy" else FRAME
    if wanted != given:
        raise PrerequisiteError(
            f"{weights} looks at {wanted}s but was given {given}s; say dataset.visual={wanted}, or "
            "choose another baseline.release"
        )
    pixels = read_frames(path, partial(look_at, frames=frames), size=(SIDE, SIDE)).pixels
    return np.ascontiguousarray(pixels[..., ::-1]) if given == FACE else pixels


def listen(path: Path) -> Samples:
    """8 x 32000: stretches of 2 s at 16 kHz, spread over the sound, which is 2 s long at least."""
    from ovmer.baselines.layers.hubert import SAMPLE_RATE
    from ovmer.baselines.models.affectgpt import SECONDS

    length = SECONDS * SAMPLE_RATE
    sound = read_sound(path, SAMPLE_RATE, resampling="sinc_hann")
    sound = np.pad(sound, (0, max(0, length - len(sound))))
    starts = window_starts(len(sound) / SAMPLE_RATE, SECONDS, _STRETCHES)
    offsets = [int(start * SAMPLE_RATE) for start in starts]
    return np.stack([sound[offset : offset + length] for offset in offsets])
