"""The contract of an engine: questions in, replies out, each as soon as it is known."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from ovmer.baselines.errors import ClipError, PrerequisiteError


@dataclass
class Sampling:
    """How a reply is drawn; the keys of a preset in `conf/extractor/*.yaml`.

    Every value is passed on explicitly, so that no default of an engine or of the checkpoint's
    `generation_config.json` creeps in.
    """

    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 is all."""
    repetition_penalty: float = 1.0
    """Over prompt and answer together, as vLLM and transformers have it."""
    max_tokens: int = 512

    def __post_init__(self) -> None:
        for name, holds, rule in (
            ("temperature", self.temperature >= 0, "at least 0"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k >= 0, "at least 0"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
            ("max_tokens", self.max_tokens >= 1, "at least 1"),
        ):
            if not holds:
                raise PrerequisiteError(
                    f"the extractor's {name} is {getattr(self, name)} but must be {rule}"
                )

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Question:
    """One user message, and where its random stream starts (unused in greedy decoding)."""

    prompt: str
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model wrote, before any clean-up."""

    text: str
    is_cut: bool = False
    """True where the reply was ended by `max_tokens`."""
    prompt_tokens: int | None = None
    new_tokens: int | None = None


Outcome = Reply | ClipError
"""A reply, or why this one question has none."""


class Engine(Protocol):
    """Asks a language model."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Which model answers, and through which engine: all but the question and the sampling.

        Known without loading anything. Raises PrerequisiteError where the model is not to be had.
        """

    def complete(self, questions: Sequence[Question]) -> Iterator[tuple[int, Outcome]]:
        """(place of the question, outcome), in any order, each as soon as it is known.

        Raises PrerequisiteError where no further question can be answered; what was yielded
        before stands.
        """

    def close(self) -> None:
        """Free what answering took."""
