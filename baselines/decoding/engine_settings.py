"""The keys of `conf/engine/*.yaml`, checked, and the engines that they start.

The group is used twice: `engine` decodes descriptions, `extractor.engine` answers the questions of
extraction and grouping.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from ovmer.baselines.cache import LANGUAGE_MODELS
from ovmer.baselines.cache import cache_folder as user_cache
from ovmer.baselines.decoding.engine_base import EngineSettings as EngineSettings
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import PrerequisiteError, first_line, near
from ovmer.baselines.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from ovmer.baselines.checkpoint import Loading
    from ovmer.baselines.decoding.answers import Engine
    from ovmer.baselines.device import Placement

_BASE_URL = "OPENAI_BASE_URL"
_VLLM_SERVE = "http://localhost:8000/v1"


@dataclass
class TransformersSettings(EngineSettings):
    """Batches in torch. The switches are off by default because each changes the words."""

    quantization: str = "none"
    """none | 8bit | 4bit: weights of the language model as bitsandbytes keeps them."""
    compile: bool = False
    """torch.compile of the language model."""
    attention: str = "auto"
    """auto (what transformers chooses: torch's own) | eager | sdpa | flash_attention_2"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._one_of("quantization", "none", "8bit", "4bit")
        self._one_of("attention", "auto", "eager", "sdpa", "flash_attention_2")

    @property
    def needs_folder(self) -> bool:
        return self.quantization != "none"

    def check(self, generation: GenerationSettings, transformers_only: str = "") -> None:
        for key, usual in (("quantization", "none"), ("gpus", 1)):
            if transformers_only and (value := getattr(self, key)) != usual:
                raise PrerequisiteError(
                    f"{self.at}.{key}={value} cannot be had for this baseline, because "
                    f"{transformers_only}; say {self.at}.{key}={usual}"
                )

    def start(
        self,
        model: Any,
        tokenizer: Tokenizer,
        generation: GenerationSettings,
        placement: "Placement",
    ) -> "Engine":
        from ovmer.baselines.chat import load_chat_model

        self._check_packages()
        if placement.llm_folder is not None:
            path = placement.llm_folder.path
            model.llm = load_chat_model(path, placement, quantization=self.quantization)
        return self.engine(model.llm, tokenizer, generation)

    def start_text(
        self,
        folder: Path,
        tokenizer: Tokenizer,
        generation: GenerationSettings,
        device: str,
        dtype: str,
        loading: "Loading | None" = None,
    ) -> "Engine":
        llm = self.read(folder, device, dtype, loading=loading)
        return self.engine(llm, tokenizer, generation)

    def read(
        self,
        folder: Path,
        device: str,
        dtype: str,
        architecture: str = "",
        loading: "Loading | None" = None,
    ) -> "PreTrainedModel":
        """The chat model of `folder` with its weights, the adapters of `loading` merged into them.

        `architecture` names its class in transformers; empty for a language model.
        """
        self._check_packages()
        from transformers import AutoModelForCausalLM

        from ovmer.baselines.chat import chat_place, load_chat_model
        from ovmer.baselines.checkpoint import Loading
        from ovmer.baselines.decoding.switches import adapt
        from ovmer.baselines.native.classes import class_named

        model: Any = class_named(architecture) if architecture else AutoModelForCausalLM
        placement = chat_place(folder, device, dtype, model, self.gpus, self.at)
        loading = loading or Loading({}, {})
        options: dict[str, Any] = {"what": architecture} if architecture else {}
        options |= {"quantization": self.quantization, "notes": loading.notes}
        adapter = loading.single_adapter()
        llm = load_chat_model(folder, placement, model, **options)
        if adapter is not None:
            adapt(llm, adapter, merge=self.quantization == "none")
        return llm

    def _check_packages(self) -> None:
        if self.quantization == "none":
            return
        try:
            version("bitsandbytes")
        except PackageNotFoundError as error:
            key = f"{self.at}.quantization"
            raise PrerequisiteError(
                f"{key}={self.quantization} needs bitsandbytes, which is not installed; pip "
                f"install 'ovmer[quantization]', or say {key}=none"
            ) from error

    def engine(
        self,
        llm: "PreTrainedModel",
        tokenizer: Tokenizer,
        generation: GenerationSettings,
        with_media: bool = False,
    ) -> "Engine":
        """The engine for a model with its weights, `with_media` where prompts contain media.

        Those are decoded in padded batches, and so are all prompts over several GPUs, where
        continuous batches were not tried.
        """
        from ovmer.baselines.decoding.continuous import ContinuousEngine, transformers_engine
        from ovmer.baselines.decoding.switches import choose_attention, compiled
        from ovmer.baselines.decoding.transformers_engine import TransformersEngine

        if self.attention != "auto":
            choose_attention(llm, self.attention, f"{self.at}.attention")
        llm = compiled(llm) if self.compile else llm
        is_padded = with_media or self.gpus > 1
        kind = TransformersEngine if is_padded else transformers_engine
        engine = kind(llm, tokenizer, generation, self.dtype_key)
        if isinstance(engine, ContinuousEngine):
            engine.limit(self.batch_size, self.batch_tokens)
        return engine


@dataclass
class VllmSettings(EngineSettings):
    """vLLM in a process of its own on the same GPU; on a CPU in ours."""

    memory: float | None = None
    """Share of the GPU's memory for language model and KV cache. Null: 0.75 beside encoders, which
    have the rest, and 0.9 for a language model alone."""
    context: int = 0
    """Longest prompt and answer together, in tokens. 0: what a chat MLLM's clips need; else what
    the language model is made for, or less where the memory does not hold that."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of `vllm.LLM`."""

    lacks: ClassVar[Mapping[str, str]] = {
        "num_beams": "beam search",
        "no_repeat_ngram_size": "ban on repeated n-grams",
        "bad_words": "ban on words",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory is not None:
            self._number("memory", 0.05, 1)
        self._number("context", 0, 10**7)
        if "tensor_parallel_size" in self.options:
            raise PrerequisiteError(
                f"{self.at}.options.tensor_parallel_size is {self.at}.gpus here; say "
                f"{self.at}.gpus={self.options['tensor_parallel_size']}"
            )

    def start(
        self,
        model: Any,
        tokenizer: Tokenizer,
        generation: GenerationSettings,
        placement: "Placement",
    ) -> "Engine":
        from ovmer.baselines.decoding.memory import check_memory, needs_of
        from ovmer.baselines.decoding.vllm_engine import VllmEngine
        from ovmer.baselines.device import memory_of

        assert placement.llm_folder is not None
        path = placement.llm_folder.path
        if (total := memory_of(placement.device)) is not None:
            needs = needs_of(model, path, self.context, placement.dtype, self.gpus)
            check_memory(needs, total, self.memory or 0.75)
        options = self.arguments(placement.device, _name_of(placement.dtype), beside_encoders=True)
        return VllmEngine(VllmEngine.start(path, options), tokenizer, generation, self.dtype_key)

    def start_text(
        self,
        folder: Path,
        tokenizer: Tokenizer,
        generation: GenerationSettings,
        device: str,
        dtype: str,
        loading: "Loading | None" = None,
    ) -> "Engine":
        from ovmer.baselines.decoding.vllm_engine import VllmEngine
        from ovmer.baselines.decoding.vllm_offline import OfflineVllm

        options = {"seed": 0} | self.own_arguments(device, dtype)
        adapter = loading.single_adapter() if loading else None
        vllm = OfflineVllm(folder, options, choice=self.choice, key=self.at, adapter=adapter)
        return VllmEngine(vllm, tokenizer, generation, self.dtype_key)

    def own_arguments(self, device: str, dtype: str) -> dict[str, Any]:
        """Arguments of `vllm.LLM` for a model with a data type of its own, which `dtype=auto` is
        on a GPU; on a CPU that is float32."""
        from ovmer.baselines.device import resolve

        placement = resolve(device, dtype, self.gpus, self.at)
        is_own = dtype == "auto" and placement.device.type == "cuda"
        return self.arguments(placement.device, "auto" if is_own else _name_of(placement.dtype))

    def arguments(
        self, device: "torch.device", dtype: str, *, beside_encoders: bool = False
    ) -> dict[str, Any]:
        """Arguments of `vllm.LLM`. Raises PrerequisiteError for a GPU that it would not take."""
        from ovmer.baselines.device import memory_share

        if device.index:
            raise PrerequisiteError(
                f"vLLM takes the first GPU that it sees and not {device}; set the variable "
                f"CUDA_VISIBLE_DEVICES={device.index} and say machine.device=cuda"
            )
        memory = {}
        if device.type == "cuda":
            share = self.memory or (0.75 if beside_encoders else 0.9)
            memory["gpu_memory_utilization"] = share * memory_share()
        # -1: the model's whole context, or as much of it as fits the memory.
        length = {"max_model_len": self.context or -1}
        shared = {"tensor_parallel_size": self.gpus} if self.gpus > 1 else {}
        return {"dtype": dtype, **memory, **length, **shared, **self.options}


@dataclass
class ServerSettings(EngineSettings):
    """An OpenAI-compatible server. For baselines a vLLM server, here or elsewhere, that was started
    with the folder of the language model."""

    base_url: str | None = None
    """Null: the environment variable OPENAI_BASE_URL, else where `vllm serve` listens."""
    key_variable: str = "OPENAI_API_KEY"
    """The environment variable that holds the key."""
    vllm_parameters: bool = True
    """Whether the server takes `top_k` and `repetition_penalty`, as vLLM's does."""
    limit_parameter: str = "max_tokens"
    """Some hosted models want `max_completion_tokens`."""
    concurrency: int = 32
    """Questions in flight."""
    per_minute: int = 0
    """Questions begun in a minute at most; 0 is no limit."""
    retries: int = 6
    """After a lost connection, 408, 409, 429 or 5xx; the waits double from 0.5 s to 8 s, or are
    what the server asks for."""
    timeout: float = 300.0
    """Seconds for one question, retries included."""

    no_key: ClassVar[str] = "none"
    """Sent to servers that want no key: the client insists on one."""
    lacks: ClassVar[Mapping[str, str]] = {
        **VllmSettings.lacks,
        "repetition_penalty": "penalty on repetition where the prompt is given as embeddings",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self._one_of("gpus", 1)  # the server's own affair
        for key, least in (("concurrency", 1), ("per_minute", 0), ("retries", 0), ("timeout", 1)):
            self._number(key, least)

    @property
    def url(self) -> str:
        return self.base_url or os.environ.get(_BASE_URL) or _VLLM_SERVE

    @property
    def shown_url(self) -> str:
        """The url for messages, without user and password."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    @property
    def api_key(self) -> str:
        """The key in the environment. Raises PrerequisiteError where it cannot be one."""
        key = os.environ.get(self.key_variable, "").strip() or self.no_key
        if not key.isascii():
            raise PrerequisiteError(f"the environment variable {self.key_variable} holds no key")
        return key

    def without_key(self, text: str) -> str:
        """A server's words without the key, should it repeat that."""
        return text.replace(self.api_key, "...") if self.api_key != self.no_key else text

    def start(
        self,
        model: Any,
        tokenizer: Tokenizer,
        generation: GenerationSettings,
        placement: "Placement",
    ) -> "Engine":
        from ovmer.baselines.decoding.server_engine import EmbeddingServer

        assert placement.llm_folder is not None
        return EmbeddingServer(placement.llm_folder.path, tokenizer, generation, self)


_KINDS: Mapping[str, type[EngineSettings]] = {
    "transformers": TransformersSettings,
    "vllm": VllmSettings,
    "server": ServerSettings,
}


def engine_settings(given: Mapping[str, Any], at: str = "engine") -> EngineSettings:
    """The settings of the engine that `given["name"]` names; `at` is their key.

    Raises PrerequisiteError for a name, a key or a value that there is not.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not isinstance(given, Mapping):
        raise PrerequisiteError(
            f"{at}={given} replaces all settings of the engine; to choose one, say "
            f"engine@{at}={given}"
        )
    if (name := given.get("name")) not in _KINDS:
        raise PrerequisiteError(f"{at}.name is {name!r}; {near(str(name), _KINDS)}")
    kind = _KINDS[str(name)]
    known = [each.name for each in fields(kind) if each.name != "at"]
    if strange := sorted(given.keys() - set(known)):
        raise PrerequisiteError(
            f"the engine {name} has no key {at}.{strange[0]}; it has {', '.join(known)}"
        )
    try:
        merged = OmegaConf.merge(OmegaConf.structured(kind), dict(given) | {"at": at})
        found = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        key = ".".join(filter(None, [at, str(error.full_key or "")]))
        raise PrerequisiteError(f"{key}: {first_line(error)}") from error
    assert isinstance(found, EngineSettings)
    return found


def cache_folder(settings: EngineSettings) -> Path:
    """The folder where language models are kept."""
    return Path(settings.cache).expanduser() if settings.cache else user_cache(LANGUAGE_MODELS)


def _name_of(dtype: "torch.dtype") -> str:
    return str(dtype).removeprefix("torch.")
