"""How an answer is drawn: `generation` of a baseline's yaml, `presets` of an extractor's."""

from dataclasses import asdict, dataclass, field
from typing import Any

from ovmer.baselines.errors import PrerequisiteError


@dataclass
class GenerationSettings:
    """All that shapes an answer, each value explicit so that no library default creeps in."""

    max_new_tokens: int = 512
    min_new_tokens: int = 0
    max_length: int = 0
    """Bound of prompt and answer together, besides `max_new_tokens`; 0 is none. A prompt that
    leaves no room gets an empty answer."""
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    """Sample among the likeliest tokens that make up this probability; 1 is all."""
    top_k: int = 0
    """Sample among this many of the likeliest tokens; 0 is all."""
    min_p: float = 0.0
    """Sample among tokens with at least this share of the likeliest one's probability; 0 is all."""
    presence_penalty: float = 0.0
    """Taken off the score of each token that the answer already holds, however often."""
    repetition_penalty: float = 1.0
    """Where the prompt is given as embeddings, only new tokens are penalised."""
    no_repeat_ngram_size: int = 0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool = False
    bad_words: list[str] = field(default_factory=list)
    """Texts whose tokens are never produced in a row."""
    stop: list[str] = field(default_factory=list)
    """The answer ends before the first of these."""

    def __post_init__(self) -> None:
        for name, holds, rule in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("min_new_tokens", self.min_new_tokens >= 0, "at least 0"),
            ("max_length", self.max_length >= 0, "at least 0"),
            ("temperature", self.temperature > 0, "above 0 (do_sample=false is greedy)"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k >= 0, "at least 0"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 to 1"),
            ("presence_penalty", abs(self.presence_penalty) <= 2, "from -2 to 2"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
            ("no_repeat_ngram_size", self.no_repeat_ngram_size >= 0, "at least 0"),
            ("num_beams", self.num_beams >= 1, "at least 1"),
        ):
            if not holds:
                value = getattr(self, name)
                raise PrerequisiteError(
                    f"{name} of the generation preset is {value} but must be {rule}"
                )

    def as_sampling(self) -> dict[str, Any]:
        """The values that shape a text answer, in vLLM's words: part of the key of kept answers.

        Keys that such answers did not always depend on are left out at their defaults, so that
        answers that were kept before stay valid.
        """
        always = {
            "temperature": self.temperature if self.do_sample else 0.0,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "repetition_penalty": self.repetition_penalty,
            "max_tokens": self.max_new_tokens,
        }
        plain, known = asdict(GenerationSettings()), {*always, "do_sample", "max_new_tokens"}
        more = {
            key: value
            for key, value in asdict(self).items()
            if key not in known and value != plain[key]
        }
        return always | more
