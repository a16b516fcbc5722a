"""How an OpenAI-compatible server is asked: where it is, how fast, and in which parameters."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import PrerequisiteError, first_line

_PLAIN = GenerationSettings()
_OURS_ALONE = ("num_beams", "no_repeat_ngram_size", "max_length", "bad_words")
_OF_VLLM = ("top_k", "repetition_penalty", "min_new_tokens")
_OF_EVERY_ENGINE = ("name", "cache", "batch_size", "batch_tokens")
_BASE_URL = "OPENAI_BASE_URL"
_VLLM_SERVE = "http://localhost:8000/v1"
NO_KEY = "none"  # what servers that want no key are sent: the client insists on one


@dataclass
class ServerSettings:
    """How a server is asked: the keys of `conf/engine/server.yaml` and of `extractor.server`."""

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

    @classmethod
    def of_engine(cls, engine: Mapping[str, Any]) -> "ServerSettings":
        """Those of `engine=server`; raises PrerequisiteError for a wrong key or value."""
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        given = {key: value for key, value in engine.items() if key not in _OF_EVERY_ENGINE}
        try:
            found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), given))
        except OmegaConfBaseException as error:
            key = ".".join(filter(None, ["engine", str(error.full_key or "")]))
            raise PrerequisiteError(f"{key}: {first_line(error)}") from error
        assert isinstance(found, ServerSettings)
        return found

    @property
    def url(self) -> str:
        return self.base_url or os.environ.get(_BASE_URL) or _VLLM_SERVE

    @property
    def place(self) -> str:
        """The url as messages show it."""
        return _without_user(self.url)

    @property
    def api_key(self) -> str:
        """The key in the environment. Raises PrerequisiteError where it cannot be one."""
        key = os.environ.get(self.key_variable, "").strip() or NO_KEY
        if not key.isascii():
            raise PrerequisiteError(f"the environment variable {self.key_variable} holds no key")
        return key

    def check(self, key: str) -> None:
        """Raise PrerequisiteError for a wrong value; `key` is where the settings stand."""
        for name, least in (("concurrency", 1), ("per_minute", 0), ("retries", 0), ("timeout", 1)):
            if getattr(self, name) < least:
                raise PrerequisiteError(
                    f"{key}.{name} is {getattr(self, name)}; give at least {least}"
                )
        if self.base_url and urlsplit(self.base_url).password:
            raise PrerequisiteError(
                f"{key}.base_url holds a password, which would be written to run.json; "
                f"put the url into the environment variable {_BASE_URL}"
            )


def parameters(generation: GenerationSettings, settings: ServerSettings) -> dict[str, Any]:
    """How an answer is drawn, as keys of a request; all but the seed.

    None is left to the server's defaults: vLLM's fills in the model's generation_config.json.
    Raises PrerequisiteError for what this server cannot do.
    """
    found: dict[str, Any] = {
        "temperature": generation.temperature if generation.do_sample else 0.0,
        "top_p": generation.top_p if generation.do_sample else 1.0,
        settings.limit_parameter: generation.max_new_tokens,
        **({"stop": list(generation.stop)} if generation.stop else {}),
    }
    unable = [key for key in _OURS_ALONE if getattr(generation, key) != getattr(_PLAIN, key)]
    if settings.vllm_parameters:
        found |= {
            "top_k": generation.top_k if generation.do_sample else 0,
            "repetition_penalty": generation.repetition_penalty,
            "min_tokens": generation.min_new_tokens,
        }
    else:
        unable += [key for key in _OF_VLLM if getattr(generation, key) != getattr(_PLAIN, key)]
    if unable:
        key = unable[0]
        raise PrerequisiteError(
            f"baseline.generation has {' and '.join(unable)}, of which this server knows nothing; "
            f"choose another preset (generation=greedy), or set {key} to {getattr(_PLAIN, key)}"
        )
    return found


def _without_user(url: str) -> str:
    """A url as messages show it: whoever may see them need not know the password in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
