"""The contract of the stage between descriptions and labels."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class ClipDescription:
    """One baseline's description of one clip."""

    name: str
    text: str
    subtitle: str | None = None
    """The subtitle, if it is to be merged into the description; else None."""
    is_labels: bool = False
    """True where the text names labels and describes nothing (`Adapter.answers_with_labels`)."""
    truth: tuple[str, ...] = ()
    """The true labels, for a judge; empty for extractors, which must not see them."""
    video: Path | None = None
    """For a judge that is shown frames."""
    in_sentence: bool = False
    """True if those labels are part of a sentence; else the text is the list itself."""


@dataclass(frozen=True, slots=True)
class ExtractedLabels:
    """The open-vocabulary labels of one description."""

    name: str
    labels: tuple[str, ...]
    raw: str
    """The extractor's answer as it came, before it was parsed."""
    notes: tuple[str, ...] = ()
    """Problems with the answer, one short sentence each; `raw` is kept all the same."""
    trail: Mapping[str, str] = field(default_factory=dict)
    """Intermediate texts by step: the merged text, a translation."""
    error: str | None = None
    """Why there is no answer, in one sentence; the description is asked about again later."""


class Extractor(Protocol):
    """Turns descriptions into labels."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything that can change a label: labels made under another identity are redone."""

    def extract(self, items: Iterable[ClipDescription]) -> Iterator[ExtractedLabels]:
        """Yield one result an item, in any order, each as soon as it is known.

        Raises PrerequisiteError if it cannot go on; results yielded before are kept.
        """

    def close(self) -> None:
        """Free what extraction took."""
