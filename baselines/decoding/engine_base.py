"""What the settings of all engines share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.tokenizer import Tokenizer

if TYPE_CHECKING:
    from ovmer.baselines.checkpoint import Loading
    from ovmer.baselines.decoding.answers import Engine
    from ovmer.baselines.device import Placement

_LEAVE_WORDS = {
    "quantization": "none",
    "compile": False,
    "attention": "auto",
    "context": 0,
    "dtype": "auto",
    "kv_cache_dtype": "auto",
}
"""Keys that change the words, and the values that leave them as they are; vLLM's own options (the
last two) count as keys."""


@dataclass
class EngineSettings:
    """The keys that all engines share."""

    name: str = ""
    cache: str = ""
    """Folder of the language models, see `LlmFolder`."""
    batch_size: int = 64
    """Prompts in a batch at most, where there are batches."""
    batch_tokens: int = 0
    """Tokens in a batch at most, padding and answers included; 0 is any number."""
    gpus: int = 1
    """GPUs that one model is spread over, from the machine's device on."""
    at: str = "engine"
    """The key of these settings, which messages name: `engine` or `extractor.engine`."""

    lacks: ClassVar[Mapping[str, str]] = {}
    """Generation settings that the engine cannot follow, and what they are called."""

    def __post_init__(self) -> None:
        self._number("batch_size", 1)
        self._number("batch_tokens", 0)
        self._number("gpus", 1)

    @property
    def choice(self) -> str:
        """The key that chooses the engine on the command line."""
        return self.at if self.at == "engine" else f"engine@{self.at}"

    @property
    def dtype_key(self) -> str:
        """The key of the data type that the language model runs in."""
        return "machine.dtype" if self.at == "engine" else "extractor.dtype"

    @property
    def needs_folder(self) -> bool:
        """Whether the language model is read from a folder of its own."""
        return True

    @property
    def switches(self) -> dict[str, Any]:
        """The keys that change the words, where they are not at their defaults."""
        return words_depend_on(vars(self))

    def check(self, generation: GenerationSettings, transformers_only: str = "") -> None:
        """Raises PrerequisiteError where this engine cannot decode what is asked for.

        `transformers_only` says why no engine but transformers can decode a baseline.
        """
        if transformers_only:
            raise PrerequisiteError(
                f"{self.choice}={self.name} cannot decode this baseline, because "
                f"{transformers_only}; say {self.choice}=transformers"
            )
        for key, what in self.lacks.items():
            if (value := getattr(generation, key)) != getattr(GenerationSettings(), key):
                greedy = "generation" if self.at == "engine" else "extractor.sampling"
                preset = f"{greedy}=greedy, or " if key == "num_beams" else ""
                raise PrerequisiteError(
                    f"{self.choice}={self.name} has no {what}, which the generation preset "
                    f"asks for ({key}={value}); say {preset}{self.choice}=transformers"
                )

    def start(
        self,
        model: Any,
        tokenizer: Tokenizer,
        generation: GenerationSettings,
        placement: "Placement",
    ) -> "Engine":
        """The engine for `model`, whose language model may be in `placement.llm_folder`.

        Raises PrerequisiteError where it cannot start.
        """
        raise NotImplementedError

    def start_text(
        self,
        folder: Path,
        tokenizer: Tokenizer,
        generation: GenerationSettings,
        device: str,
        dtype: str,
        loading: "Loading | None" = None,
    ) -> "Engine":
        """The engine for token ids, with the chat model of `folder` and the adapters of `loading`.

        Raises PrerequisiteError where it cannot start.
        """
        raise NotImplementedError

    def _one_of(self, key: str, *choices: object) -> None:
        if getattr(self, key) not in choices:
            named = ", ".join(str(each).lower() for each in choices)
            raise PrerequisiteError(
                f"{self.at}.{key} is {getattr(self, key)!r}; choose from {named}"
            )

    def _number(self, key: str, least: float, most: float = float("inf")) -> None:
        if not least <= (value := getattr(self, key)) <= most:
            rule = f"give at least {least:g}"
            if most < float("inf"):
                rule = f"give a number from {least:g} to {most:g}"
            raise PrerequisiteError(f"{self.at}.{key} is {value}; {rule}")


def words_depend_on(given: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of an engine that change the words, beside its name; empty as a rule."""
    given = {**given, **(given.get("options") or {})}
    values = {key: given.get(key, plain) for key, plain in _LEAVE_WORDS.items()}
    return {key: value for key, value in values.items() if value != _LEAVE_WORDS[key]}
