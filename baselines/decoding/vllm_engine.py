"""The engine that decodes with vLLM: prompts of embeddings, of token ids, or with media.

Of the baselines' own models vLLM knows none. Their encoders and connector run in torch; vLLM holds
the language model alone, as `LlmFolder` keeps it, and takes a clip's prompt as vectors
(`enable_prompt_embeds`). Greedy answers in float32 are those of transformers; sampled ones depend
on the clip's seed alone, as there, but are other draws.

What vLLM 0.32 gets wrong, and what is done about it: embeddings of another width kill the engine,
so they are checked first; the penalty on repetition looks at the prompt's token ids, which it has
none of and takes from an earlier request in the same batch slot, so ids of no token are sent
along.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ovmer.baselines.decoding.answers import (
    Answered,
    AnswerReader,
    Asked,
    Generated,
    NotFinite,
    Prompt,
    StreamingEngine,
    VllmPrompt,
)
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.decoding.vllm_offline import OfflineVllm, Request
from ovmer.baselines.errors import ClipError
from ovmer.baselines.tokenizer import Tokenizer

if TYPE_CHECKING:
    from vllm import SamplingParams


class VllmEngine(StreamingEngine):
    """Prompts -> texts, with continuous batching: no padding, no batch size."""

    def __init__(
        self,
        vllm: OfflineVllm,
        tokenizer: Tokenizer,
        settings: GenerationSettings,
        dtype_key: str = "machine.dtype",
    ) -> None:
        """`vllm` is closed with this; `dtype_key` is the setting of the model's data type."""
        self._vllm = vllm
        self._dtype_key = dtype_key
        self._settings = settings
        self._tokenizer = tokenizer
        self._reader = AnswerReader(tokenizer, settings)

    @staticmethod
    def start(folder: Path, options: Mapping[str, Any]) -> OfflineVllm:
        """vLLM for embeddings, with the language model of `folder`; `options` as in `vllm.LLM`.

        Raises PrerequisiteError where vLLM is missing or cannot start.
        """
        needed = {"enable_prompt_embeds": True, "skip_tokenizer_init": True, "seed": 0}
        needed["enable_prefix_caching"] = False  # which would hash every clip's embeddings
        return OfflineVllm(folder, needed | dict(options))

    @property
    def context(self) -> int:
        """The most tokens that a prompt and its answer may take together."""
        return self._vllm.context

    def stream(self, asked: Asked) -> Answered:
        """Answer prompts, which are drawn as the engine has room."""
        known = list[tuple[int, Generated | ClipError]]()
        lengths = dict[int, int]()

        def requests() -> Iterator[Request]:
            for key, (prompt, seed) in asked:
                lengths[key] = len(prompt)
                if self._reader.limit(len(prompt)) == 0:
                    known.append((key, self._reader.read((), len(prompt))))
                    continue
                yield key, self._prompt(prompt), self._params(len(prompt), seed)

        for key, output in self._vllm.run(
            requests(), enough=lambda output: self._reader.has_stop(output.outputs[0].token_ids)
        ):
            length = lengths.pop(key)
            if isinstance(output, ClipError):
                yield key, output
                continue
            answer = output.outputs[0]
            if not math.isfinite(answer.cumulative_logprob or 0.0):
                yield key, NotFinite("the scores of the model are", self._dtype_key)
                continue
            ids = self._reader.until_stop(list(answer.token_ids))
            yield key, self._reader.read(ids, length)
        yield from known

    def _prompt(self, prompt: Prompt) -> Mapping[str, Any]:
        if isinstance(prompt, VllmPrompt):
            return prompt.request
        if not isinstance(prompt, Tensor):
            return {"prompt_token_ids": prompt}
        request: dict[str, Any] = {"prompt_embeds": embeddings(prompt, self._vllm.width)}
        if self._settings.repetition_penalty != 1.0:
            # The first id beyond the vocabulary is what vLLM pads with, so nothing is penalised.
            request["prompt_token_ids"] = [self._vllm.vocabulary] * len(prompt)
            request["prompt_is_token_ids"] = [False] * len(prompt)
        return request

    def _params(self, prompt_tokens: int, seed: int) -> "SamplingParams":
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        kind = RequestOutputKind.CUMULATIVE if self._settings.stop else RequestOutputKind.FINAL_ONLY
        limit = self._reader.limit(prompt_tokens)
        parameters = vllm_parameters(self._settings, limit, seed, self._tokenizer.stop_ids)
        # vLLM's own text drops a character whose bytes are not all there. The logarithm of a chosen
        # token's probability is NaN as soon as one score of its row is NaN or infinite.
        return SamplingParams(
            **parameters, output_kind=kind, detokenize=False, logprobs=0, flat_logprobs=True
        )

    def close(self) -> None:
        """End the engine's processes and give the memory back."""
        self._vllm.close()


def embeddings(prompt: Prompt, width: int) -> Tensor:
    """The prompt's vectors on the CPU, checked before they reach an engine.

    Raises ValueError for another width.
    """
    if not isinstance(prompt, Tensor) or prompt.dim() != 2:
        raise ValueError("only prompts of embeddings (length x width) can be sent to vLLM")
    if prompt.shape[1] != width:
        raise ValueError(
            f"the prompt's vectors are {prompt.shape[1]} wide but the language model's {width}"
        )
    return prompt.detach().to("cpu", copy=False)


def vllm_parameters(
    settings: GenerationSettings, limit: int, seed: int, stop_ids: Sequence[int]
) -> dict[str, Any]:
    """The settings in vLLM's words, none left to its defaults; `limit` bounds the answer."""
    drawn = settings.do_sample
    return {
        "temperature": settings.temperature if drawn else 0.0,
        "top_p": settings.top_p if drawn else 1.0,
        "top_k": settings.top_k if drawn else 0,
        "min_p": settings.min_p if drawn else 0.0,
        "presence_penalty": settings.presence_penalty,
        "seed": seed if drawn else None,
        "repetition_penalty": settings.repetition_penalty,
        "max_tokens": limit,
        "min_tokens": min(settings.min_new_tokens, limit),
        "stop_token_ids": list(stop_ids),
    }
