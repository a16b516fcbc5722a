"""Base class of models that take a clip's picture, its sound, or both, as set by `modalities`.

`modalities=both` is about whatever there is: a clip that lacks one of the two is described from
the other, asked as if that alone were wanted, and its line carries a note. A clip that lacks all
that is wanted is recorded as `missing_modality`; one whose file is broken is `unreadable`.
"""

from abc import ABC
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from ovmer.adapters.base import AUDIO, MEDIA, SUBTITLE, VIDEO, Adapter, require_audio, require_video
from ovmer.adapters.mllm import Mllm
from ovmer.adapters.question import QuestionTemplate
from ovmer.baselines.errors import MissingModality, PrerequisiteError

BOTH = "both"
_USED = {VIDEO: {VIDEO}, AUDIO: {AUDIO}, BOTH: MEDIA}
_ALONE = {
    VIDEO: "the clip has no sound, so it was described from its picture alone",
    AUDIO: "the clip has no picture, so it was described from its sound alone",
}

Seen = TypeVar("Seen")
Heard = TypeVar("Heard")
Read = TypeVar("Read")


@dataclass
class AudioVisualAdapter(Adapter):
    """An adapter with the setting `modalities`, and a question for each of its values."""

    choices: ClassVar[tuple[str, ...]] = tuple(_USED)
    """The values of `modalities`."""

    modalities: Any = field(default_factory=lambda: BOTH)  # type: ignore[misc]
    """`video`, `audio` or `both` in the configuration; of an adapter, the set that it uses."""
    prompts: dict[str, QuestionTemplate] = field(
        default_factory=lambda: {choice: QuestionTemplate() for choice in _USED}
    )
    """Question for each combination of available media."""

    def __post_init__(self) -> None:
        choices = ", ".join(self.choices)
        if not isinstance(self.modalities, frozenset):  # a copy is made with the set
            if self.modalities not in self.choices:
                raise PrerequisiteError(
                    f"baseline.modalities is {self.modalities!r}; choose from {choices}"
                )
            self.modalities = frozenset({*_USED[self.modalities], SUBTITLE})
        if self.prompts.keys() != set(self.choices):
            raise PrerequisiteError(
                f"baseline.prompts has {', '.join(self.prompts)}; it takes {choices}"
            )

    def asking(self, question: str) -> Self:
        asked = copy(self)
        asked.prompts = {
            given: QuestionTemplate(without_subtitle=question) for given in self.prompts
        }
        return asked

    def perceive(
        self,
        video: Path | None,
        audio: Path | None,
        see: Callable[[Path], Seen],
        hear: Callable[[Path], Heard],
    ) -> tuple[Seen | None, Heard | None, QuestionTemplate, tuple[str, ...]]:
        """Read the picture with `see` and the sound with `hear`, if wanted and present.

        Returns both, the question for what is present, and a note if one of them is missing.
        Raises MissingModality if nothing is left.
        """
        seen = self._read(VIDEO, lambda: see(require_video(video)))
        heard = self._read(AUDIO, lambda: hear(require_audio(audio)))
        if seen is None and heard is None:
            raise MissingModality("the clip has neither picture nor sound; one of them is needed")
        given = VIDEO if heard is None else AUDIO if seen is None else BOTH
        notes = (_ALONE[given],) if given != BOTH and self.modalities >= MEDIA else ()
        return seen, heard, self.prompts[given], notes

    def _read(self, medium: str, read: Callable[[], Read]) -> Read | None:
        """None for what is not wanted, and for what is absent while the other is wanted as well."""
        if medium not in self.modalities:
            return None
        try:
            return read()
        except MissingModality:
            if self.modalities >= MEDIA:
                return None
            raise


@dataclass
class AudioVisual(AudioVisualAdapter, Mllm, ABC):
    """Such an adapter around a multimodal LLM that runs on this machine."""

    def __post_init__(self) -> None:
        Mllm.__post_init__(self)
        AudioVisualAdapter.__post_init__(self)
        if self.prompt != QuestionTemplate():
            choices = ", ".join(self.choices)
            raise PrerequisiteError(
                f"baseline.prompt is not for this baseline; set one of baseline.prompts: {choices}"
            )
