"""The question that a model is asked about a clip."""

from dataclasses import dataclass

from ovmer.baselines.errors import PrerequisiteError

SLOT = "{subtitle}"
"""Stands in a question for what is said in the clip."""


@dataclass
class QuestionTemplate:
    """The question for each clip; `{subtitle}` is replaced by the clip's subtitle."""

    with_subtitle: str = SLOT
    without_subtitle: str = ""

    def __post_init__(self) -> None:
        if self.with_subtitle.count(SLOT) != 1:
            raise PrerequisiteError(f"with_subtitle in the baseline's prompt must hold {SLOT} once")

    def about(self, subtitle: str | None) -> str:
        """The question; None leaves the subtitle out, an empty one is a clip without words."""
        if subtitle is None:
            return self.without_subtitle
        return self.with_subtitle.replace(SLOT, subtitle)
