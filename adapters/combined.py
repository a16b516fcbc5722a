"""The clues of several baselines in one description: the papers' rows of SALMONN + mPLUG-Owl.

Run the parts first, each asked without the subtitle; then, with the subtitle merged in by a
language model,

    ovmer sweep baseline=combined baseline.name=salmonn+mplug_owl subtitle=merge \\
        baseline.runs=[outputs/ovmerd/salmonn-apart,outputs/ovmerd/mplug_owl-apart] extractor=qwen25

The prompt with which the authors merged two clues and a subtitle was not published. Here both clues
are at the slot of their prompt for one clue, joined by the `；` that separates clue and subtitle.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ovmer.adapters.base import Adapter, Prepared
from ovmer.adapters.registry import register
from ovmer.baselines.errors import ClipError, PrerequisiteError

_JOIN = "；"


@register("combined")
@dataclass
class Combined(Adapter):
    """Joins the answers of other runs for a clip, in the order of `runs`."""

    runs: list[str] = field(default_factory=list)
    """Run folders of the same data set."""

    modalities: ClassVar[frozenset[str]] = frozenset()
    beside_identity: ClassVar[frozenset[str]] = frozenset({"runs"})  # `sources` are part of it

    def sources(self) -> Sequence[Path]:
        """Raises PrerequisiteError for fewer than two runs."""
        if len(self.runs) < 2:
            raise PrerequisiteError(
                "baseline=combined joins two runs or more; name their folders: "
                "baseline.runs=[outputs/ovmerd/salmonn-apart,outputs/ovmerd/mplug_owl-apart]"
            )
        return [Path(run).expanduser() for run in self.runs]

    def generate(self, batch: list[Prepared]) -> Sequence[str | ClipError]:
        return [self._joined(item.clues) for item in batch]

    def _joined(self, clues: Sequence[str | None]) -> str | ClipError:
        for run, clue in zip(self.runs, clues, strict=True):
            if clue is None:
                return ClipError(f"{run} has no description of this clip; run that baseline first")
        return _JOIN.join(clue for clue in clues if clue)
