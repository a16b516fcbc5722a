"""The question that a model is asked about a clip."""

from dataclasses import dataclass

from ovmer.baselines.errors import PrerequisiteError

SLOT = "{subtitle}"
"""The place of the clip's subtitle in a question."""


@dataclass
class QuestionTemplate:
    """The question for each clip; `{subtitle}` is replaced by the clip's subtitle."""

    with_subtitle: str = SLOT
    without_subtitle: str = ""

    def __post_init__(self) -> None:
        if self.with_subtitle.count(SLOT) != 1:
            raise PrerequisiteError(
                f"with_subtitle (of baseline.prompt or baseline.prompts) must hold {SLOT} once, "
                f"but is {self.with_subtitle!r}"
            )

    def replaced(self, slot: str, text: str) -> "QuestionTemplate":
        """The template with `text` at another slot of its own, such as `{request}`."""
        with_subtitle, without = self.with_subtitle, self.without_subtitle
        return QuestionTemplate(with_subtitle.replace(slot, text), without.replace(slot, text))

    def about(self, subtitle: str | None) -> str:
        """The question; None leaves the subtitle out, an empty one is a clip without words."""
        if subtitle is None:
            return self.without_subtitle
        return self.with_subtitle.replace(SLOT, subtitle)
