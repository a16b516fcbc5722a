"""The engine that decodes prompt embeddings with vLLM, which knows none of the baselines' models.

Encoders and connector run in torch; vLLM holds the language model alone, as `LlmFolder` keeps it,
and takes a clip's prompt as vectors (`enable_prompt_embeds`). Greedy answers in float32 are those
of transformers; sampled ones depend on the clip's seed alone, as there, but are other draws.

What vLLM 0.32 gets wrong, and what is done about it: embeddings of another width kill the engine,
so they are checked first; the penalty on repetition looks at the prompt's token ids, which it has
none of and takes from whoever was in that place before, so ids that stand for no token go along.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ovmer.baselines.decoding.answers import Answers, Generated, Prompt
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.decoding.vllm_offline import OfflineVllm, Request
from ovmer.baselines.tokenizer import Tokenizer

if TYPE_CHECKING:
    from vllm import SamplingParams


class VllmEngine:
    """Prompt embeddings -> texts, all of a call in the engine at once."""

    def __init__(
        self, vllm: OfflineVllm, tokenizer: Tokenizer, settings: GenerationSettings
    ) -> None:
        """`vllm` is what `start` gave, and is closed with this."""
        self._vllm = vllm
        self._settings = settings
        self._tokenizer = tokenizer
        self._answers = Answers(tokenizer, settings)

    @staticmethod
    def start(folder: Path, options: Mapping[str, Any]) -> OfflineVllm:
        """vLLM with the language model of `folder`; `options` are arguments of `vllm.LLM`.

        Raises PrerequisiteError where vLLM is missing or cannot start.
        """
        # The newer runner penalises token 0 for what stands at embeddings, whatever goes along.
        os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")
        needed = {"enable_prompt_embeds": True, "skip_tokenizer_init": True, "seed": 0}
        return OfflineVllm(
            folder, switch="engine", options_key="engine.options", options=needed | dict(options)
        )

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Generated]:
        """One answer per prompt. `seeds` start the random stream of each."""
        found = dict(self.stream(enumerate(zip(prompts, seeds, strict=True))))
        return [found[place] for place in range(len(prompts))]

    def stream(
        self, asked: Iterable[tuple[int, tuple[Prompt, int]]]
    ) -> Iterator[tuple[int, Generated]]:
        """(number, (prompt, seed)), drawn as the engine has room -> (number, answer), in any order,
        each as soon as it is known."""
        without_room = list[tuple[int, Generated]]()
        lengths = dict[int, int]()

        def requests() -> Iterator[Request]:
            for number, (prompt, seed) in asked:
                if self._answers.limit(len(prompt)) == 0:
                    without_room.append((number, self._answers.read((), len(prompt))))
                    continue
                vectors = embeddings(prompt, self._vllm.width)
                lengths[number] = len(vectors)
                yield number, self._prompt(vectors), self._params(len(vectors), seed)

        for number, output in self._vllm.run(
            requests(), enough=lambda output: self._answers.has_stop(output.outputs[0].token_ids)
        ):
            ids = self._answers.until_stop(list(output.outputs[0].token_ids))
            yield number, self._answers.read(ids, lengths.pop(number))
        yield from without_room

    def _prompt(self, vectors: Tensor) -> dict[str, Any]:
        prompt: dict[str, Any] = {"prompt_embeds": vectors}
        if self._settings.repetition_penalty != 1.0:
            # The first id beyond the vocabulary is what vLLM pads with, so nothing is penalised.
            prompt["prompt_token_ids"] = [self._vllm.vocabulary] * len(vectors)
            prompt["prompt_is_token_ids"] = [False] * len(vectors)
        return prompt

    def _params(self, prompt_tokens: int, seed: int) -> "SamplingParams":
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        kind = RequestOutputKind.CUMULATIVE if self._settings.stop else RequestOutputKind.FINAL_ONLY
        limit = self._answers.limit(prompt_tokens)
        told = sampling(self._settings, limit, seed, self._tokenizer.stop_ids)
        return SamplingParams(**told, output_kind=kind, detokenize=False)

    def close(self) -> None:
        """End the engine's processes and give the memory back."""
        self._vllm.close()


def embeddings(prompt: Prompt, width: int) -> Tensor:
    """The prompt's vectors on the CPU, their width checked before they reach an engine."""
    if not isinstance(prompt, Tensor) or prompt.dim() != 2:
        raise ValueError("only prompts of embeddings (length x width) can be sent to vLLM")
    if prompt.shape[1] != width:
        raise ValueError(
            f"the prompt's vectors are {prompt.shape[1]} wide but the language model's {width}"
        )
    return prompt.detach().to("cpu", copy=False)


def sampling(
    settings: GenerationSettings, limit: int, seed: int, stop_ids: Sequence[int]
) -> dict[str, Any]:
    """The settings in vLLM's words, none left to its defaults; `limit` bounds the answer."""
    drawn = settings.do_sample
    return {
        "temperature": settings.temperature if drawn else 0.0,
        "top_p": settings.top_p if drawn else 1.0,
        "top_k": settings.top_k if drawn else 0,
        "seed": seed if drawn else None,
        "repetition_penalty": settings.repetition_penalty,
        "max_tokens": limit,
        "min_tokens": min(settings.min_new_tokens, limit),
        "stop_token_ids": list(stop_ids),
    }
