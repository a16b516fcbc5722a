"""The engine `server`: any OpenAI-compatible server; see baselines/decoding/server.py.

Which weights stand behind a model's name is known to the server alone, so answers are kept by that
name; if they have changed under it, put a word of your own behind it (`extractor.model=qwen@may`).
Control tokens that a description spells are plain text to the other engines; here they are what
the server makes of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ovmer.baselines.decoding.server import ServerClient
from ovmer.baselines.decoding.server_settings import ServerSettings
from ovmer.baselines.errors import ClipError, PrerequisiteError
from ovmer.runners.extraction.engines.base import Outcome, Question, Reply, Sampling


class ServerCompletion:
    """Asks many questions at once; answers come in any order."""

    def __init__(self, model: str, sampling: Sampling, settings: ServerSettings) -> None:
        """Raises PrerequisiteError where the sampling has what the server does not take."""
        self._model, _, self._revision = model.partition("@")
        self._parameters = _parameters(sampling, settings)
        self._is_greedy = sampling.is_greedy
        self._client = ServerClient(
            self._model, settings, key="extractor.server", model_key="extractor.model"
        )

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"engine": "server", "model": self._model, "revision": self._revision}

    def complete(self, questions: Sequence[Question]) -> Iterator[tuple[int, Outcome]]:
        for place, outcome in self._client.complete(enumerate(map(self._body, questions))):
            if isinstance(outcome, ClipError):
                yield place, outcome
            else:
                tokens = outcome.prompt_tokens, outcome.new_tokens
                yield place, Reply(outcome.text, outcome.is_cut, *tokens)

    def close(self) -> None:
        """Nothing to free: connections are closed with the last answer."""

    def _body(self, question: Question) -> Mapping[str, Any]:
        seed = {} if self._is_greedy else {"seed": question.seed}
        messages = [{"role": "user", "content": question.prompt}]
        return {"messages": messages, **self._parameters, **seed}


def _parameters(sampling: Sampling, settings: ServerSettings) -> dict[str, Any]:
    """The sampling as the server's parameters, none left to its defaults.

    (vLLM's server fills in the model's generation_config.json, where Qwen2.5 has top_k 20.)
    """
    parameters: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        settings.limit_parameter: sampling.max_tokens,
    }
    extensions = {"top_k": sampling.top_k, "repetition_penalty": sampling.repetition_penalty}
    if settings.vllm_parameters:
        return parameters | extensions
    neutral = {"top_k": 0, "repetition_penalty": 1.0}
    if unusual := [key for key, value in extensions.items() if value != neutral[key]]:
        raise PrerequisiteError(
            f"{' and '.join(unusual)} of the sampling cannot be asked of this server "
            "(extractor.server.vllm_parameters=false); choose another preset, or set "
            f"{unusual[0]} to {neutral[unusual[0]]} in it"
        )
    return parameters
