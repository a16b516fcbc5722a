"""mPLUG-Owl, the model for video, as the OV-MER authors ran it.

Video and subtitle; a clip without a picture is recorded as `missing_modality`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ovmer.adapters.base import SUBTITLE, VIDEO, Prepared, require_video
from ovmer.adapters.media import read_frames
from ovmer.adapters.media.sampling import segment_offsets
from ovmer.adapters.mllm import Mllm
from ovmer.adapters.registry import register
from ovmer.baselines.errors import PrerequisiteError

# `bug_compat`: `max_length` in OV-MER's main-video.py. With the transformers of their environment
# (4.49) it counts the prompt too.
_PAPER_MAX_LENGTH = 512
_PAPER_FAILS = (
    "as in the authors' run the answer is empty, for their code fails on prompts of "
    f"{_PAPER_MAX_LENGTH} tokens and more"
)


@register("mplug_owl")
@dataclass
class MplugOwlAdapter(Mllm):
    """The published model. With `bug_compat` prompt and answer share 512 tokens, and the answer is
    empty where none are left."""

    frames: int = 4

    modalities: ClassVar[frozenset[str]] = frozenset({VIDEO, SUBTITLE})
    model_class: ClassVar[str] = "ovmer.baselines.models.mplug_owl:MplugOwl"
    tokenizer_part: ClassVar[str] = "model"

    # OV-MER's main-video.py. The indentation is that of their Python code, inside a text of several
    # lines. Upstream's tokenizer takes the text before and after `<|video|>` as separate texts.
    template: ClassVar[tuple[str, ...]] = (
        "The following is a conversation between a curious human and AI assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions.\n"
        "            Human: ",
        "\n            Human: {question}\n            AI: ",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames < 2:
            raise PrerequisiteError(
                f"baseline.frames is {self.frames} but this model's layers over time take 2 or more"
            )
        if self.bug_compat:
            self.generation = replace(self.generation, max_length=_PAPER_MAX_LENGTH)

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        import torch

        from ovmer.baselines.models.mplug_owl import MplugOwlInputs

        sizes = self.sizes
        frames = read_frames(
            require_video(video),
            lambda count, _: segment_offsets(count, self.frames),
            size=(sizes.image, sizes.image),
        )
        question, notes = self.fit_question(subtitle, sizes.positions)
        texts = self.texts(question)
        if self.bug_compat and sizes.positions + sum(map(len, texts)) >= _PAPER_MAX_LENGTH:
            notes += (_PAPER_FAILS,)
        return Prepared(MplugOwlInputs(texts, torch.from_numpy(frames.pixels)), notes)
