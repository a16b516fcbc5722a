"""Which engine decodes: the keys of a file of `conf/engine/`, checked, and what they start."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ovmer.baselines.cache import LANGUAGE_MODELS
from ovmer.baselines.cache import cache_folder as user_cache_folder
from ovmer.baselines.decoding.server_settings import ServerSettings
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

    from ovmer.baselines.decoding.answers import Engine
    from ovmer.baselines.device import Place

_LEAVE_WORDS = {"quantization": "none", "compile": False, "attention": "auto", "context": 0}
"""Keys that change the words, and the values that leave them as they are."""
_OF_THE_RUNNER = frozenset({"batch_size", "batch_tokens"})


@dataclass
class EngineSettings:
    """What the engines have in common."""

    name: str
    cache: str = ""
    """Folder for language models, see `LlmFolder`; empty is the user's cache folder."""

    lacks: ClassVar[Mapping[str, str]] = {}
    """Generation settings that the engine cannot follow, and what they are called."""

    @property
    def needs_folder(self) -> bool:
        """Whether the language model is read from a folder of its own."""
        return True

    def check(self, generation: GenerationSettings, transformers_only: str) -> None:
        """Raises PrerequisiteError where this engine cannot decode what a baseline asks for.

        `transformers_only` says why no engine but transformers can decode that baseline.
        """
        if transformers_only:
            raise PrerequisiteError(
                f"engine={self.name} cannot decode this baseline, because {transformers_only}; "
                "say engine=transformers"
            )
        for key, what in self.lacks.items():
            if (value := getattr(generation, key)) != getattr(GenerationSettings(), key):
                preset = "generation=greedy, or " if key == "num_beams" else ""
                raise PrerequisiteError(
                    f"engine={self.name} has no {what}, which the baseline's generation preset "
                    f"asks for ({key}={value}); say {preset}engine=transformers"
                )

    def start(
        self,
        model: Any,
        tokenizer: Tokenizer,
        generation: GenerationSettings,
        place: "Place",
    ) -> "Engine":
        """The engine for the modules `model`, whose language model may be in `place.llm_folder`.

        Raises PrerequisiteError where it cannot start.
        """
        raise NotImplementedError


@dataclass
class TransformersSettings(EngineSettings):
    """Padded batches in torch. The switches are off by default because each changes the words."""

    quantization: str = "none"
    """none | 8bit | 4bit: weights of the language model as bitsandbytes keeps them."""
    compile: bool = False
    """torch.compile of the language model."""
    attention: str = "auto"
    """auto (what transformers chooses: torch's own) | eager | sdpa | flash_attention_2"""

    def __post_init__(self) -> None:
        _one_of("quantization", self.quantization, ("none", "8bit", "4bit"))
        _one_of("compile", self.compile, (False, True))
        _one_of("attention", self.attention, ("auto", "eager", "sdpa", "flash_attention_2"))

    @property
    def needs_folder(self) -> bool:
        return self.quantization != "none"

    def check(self, generation: GenerationSettings, transformers_only: str) -> None:
        if transformers_only and self.needs_folder:
            raise PrerequisiteError(
                f"engine.quantization={self.quantization} cannot be had for this baseline, because "
                f"{transformers_only}; say engine.quantization=none"
            )

    def start(
        self,
        model: Any,
        tokenizer: Tokenizer,
        generation: GenerationSettings,
        place: "Place",
    ) -> "Engine":
        from ovmer.baselines.decoding.switches import choose_attention, compiled, read_quantized
        from ovmer.baselines.decoding.transformers_engine import TransformersEngine

        if place.llm_folder is not None:
            model.llm = read_quantized(place.llm_folder.path, self.quantization, place)
        if self.attention != "auto":
            choose_attention(model.llm, self.attention)
        llm = compiled(model.llm) if self.compile else model.llm
        return TransformersEngine(llm, tokenizer, generation)


@dataclass
class VllmSettings(EngineSettings):
    """vLLM in a process of its own on the same GPU; on a CPU in ours."""

    memory: float = 0.75
    """Share of the GPU's memory that vLLM takes, for language model and cache; the rest is for the
    encoders."""
    context: int = 0
    """Longest prompt and answer together, in tokens; 0 is what the language model is made for."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of `vllm.LLM`."""

    lacks: ClassVar[Mapping[str, str]] = {
        "num_beams": "beam search",
        "no_repeat_ngram_size": "ban on repeated n-grams",
        "bad_words": "ban on words",
    }

    def __post_init__(self) -> None:
        _number("memory", self.memory, 0.05, 1)
        _number("context", self.context, 0, 10**7)

    def start(
        self,
        model: Any,
        tokenizer: Tokenizer,
        generation: GenerationSettings,
        place: "Place",
    ) -> "Engine":
        from ovmer.baselines.decoding.memory import check_memory, needs_of
        from ovmer.baselines.decoding.vllm_engine import VllmEngine
        from ovmer.baselines.device import memory_of

        assert place.llm_folder is not None
        path = place.llm_folder.path
        if (total := memory_of(place.device)) is not None:
            check_memory(needs_of(model, path, self.context, place.dtype), total, self.memory)
        told = self.arguments(place.device, str(place.dtype).removeprefix("torch."))
        return VllmEngine(VllmEngine.start(path, told), tokenizer, generation)

    def arguments(self, device: "torch.device", dtype: str) -> dict[str, Any]:
        """Those of `vllm.LLM`. Raises PrerequisiteError for a GPU that it would not take."""
        if device.index:
            raise PrerequisiteError(
                f"vLLM takes the first GPU that it sees and not {device}; set the variable "
                f"CUDA_VISIBLE_DEVICES={device.index} and say machine.device=cuda"
            )
        share = {"gpu_memory_utilization": self.memory} if device.type == "cuda" else {}
        length = {"max_model_len": self.context} if self.context else {}
        return {"dtype": dtype, **share, **length, **self.options}


@dataclass
class ServedSettings(EngineSettings):
    """A vLLM server, here or elsewhere, that was started with the folder of the language model."""

    server: ServerSettings = field(default_factory=ServerSettings)

    lacks: ClassVar[Mapping[str, str]] = {
        **VllmSettings.lacks,
        "repetition_penalty": "penalty on repetition where the prompt is given as embeddings",
    }

    def start(
        self,
        model: Any,
        tokenizer: Tokenizer,
        generation: GenerationSettings,
        place: "Place",
    ) -> "Engine":
        from ovmer.baselines.decoding.server_engine import ServerEngine

        assert place.llm_folder is not None
        return ServerEngine(place.llm_folder.path, tokenizer, generation, self.server)


_KINDS: Mapping[str, type[EngineSettings]] = {
    "transformers": TransformersSettings,
    "vllm": VllmSettings,
    "server": ServedSettings,
}


def engine_settings(given: Mapping[str, Any]) -> EngineSettings:
    """The settings of the engine that `given["name"]` names.

    Raises PrerequisiteError for a name, a key or a value that there is not.
    """
    _one_of("name", given.get("name"), tuple(_KINDS))
    kind = _KINDS[given["name"]]
    if kind is ServedSettings:
        cache = given.get("cache", "")
        return ServedSettings(given["name"], cache, ServerSettings.of_engine(given))
    values = {key: value for key, value in given.items() if key not in _OF_THE_RUNNER}
    known = [each.name for each in fields(kind)]
    if strange := sorted(values.keys() - set(known)):
        raise PrerequisiteError(
            f"engine={given['name']} has no key {strange[0]}; it has {', '.join(known)}"
        )
    return kind(**values)


def words_depend_on(given: Mapping[str, Any]) -> dict[str, Any]:
    """What of an engine's keys changes the words, beside its name; empty as a rule."""
    options = given.get("options") or {}
    told = {key: given.get(key, plain) for key, plain in _LEAVE_WORDS.items()}
    told["quantization"] = options.get("quantization", told["quantization"])  # vLLM's own
    return {key: value for key, value in told.items() if value != _LEAVE_WORDS[key]}


def cache_folder(settings: EngineSettings) -> Path:
    """The folder for language models."""
    if settings.cache:
        return Path(settings.cache).expanduser()
    return user_cache_folder(LANGUAGE_MODELS)


def _one_of(key: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        named = ", ".join(str(each).lower() for each in choices)
        raise PrerequisiteError(f"engine.{key} is {value!r}; choose from {named}")


def _number(key: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise PrerequisiteError(
            f"engine.{key} is {value!r} but must be a number from {least:g} to {most:g}"
        )
