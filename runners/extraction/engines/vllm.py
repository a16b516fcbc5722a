"""The engine `vllm`: vLLM's offline engine on this machine, with all questions in it at once."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovmer.baselines.decoding.vllm_offline import OfflineVllm
from ovmer.runners.extraction.engines.base import Outcome, Question, Reply, Sampling
from ovmer.runners.extraction.engines.local import tokenised
from ovmer.runners.extraction.engines.where import Model

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams

    from ovmer.baselines.chat import ChatTokenizer


class VllmCompletion:
    """Continuous batching: no padding, no batch size."""

    def __init__(
        self, model: Model, sampling: Sampling, *, dtype: str, options: Mapping[str, Any]
    ) -> None:
        """`options` are further arguments of `vllm.LLM`: how much memory, how many GPUs."""
        self._model = model
        self._sampling = sampling
        self._dtype, self._options = dtype, dict(options)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        return {"engine": "vllm", **self._model.version(), "dtype": self._dtype}

    def complete(self, questions: Sequence[Question]) -> Iterator[tuple[int, Outcome]]:
        prompts = tokenised(self._tokenizer, questions, self._vllm.context, self._sampling)
        yield from prompts.too_long.items()
        requests = (
            (place, {"prompt_token_ids": ids}, self._params(questions[place].seed))
            for place, ids in prompts.fitting.items()
        )
        for place, output in self._vllm.run(requests):
            yield place, self._reply(output)

    def _params(self, seed: int) -> "SamplingParams":
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = self._sampling
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            repetition_penalty=sampling.repetition_penalty,
            max_tokens=sampling.max_tokens,
            seed=None if sampling.is_greedy else seed,
            output_kind=RequestOutputKind.FINAL_ONLY,
            detokenize=False,  # vLLM drops a character whose bytes are not all there
        )

    def _reply(self, output: "RequestOutput") -> Reply:
        answer, stopped = output.outputs[0], self._tokenizer.stop_ids
        ids = [token for token in answer.token_ids if token not in stopped]
        return Reply(
            self._tokenizer.decode(ids),
            answer.finish_reason == "length",
            len(output.prompt_token_ids or ()),
            len(ids),
        )

    def close(self) -> None:
        """End the engine's processes and give the memory back."""
        if vllm := self.__dict__.pop("_vllm", None):
            vllm.close()

    @cached_property
    def _folder(self) -> Path:
        return self._model.fetch()

    @cached_property
    def _tokenizer(self) -> "ChatTokenizer":
        from ovmer.baselines.chat import ChatTokenizer

        return ChatTokenizer(self._folder)

    @cached_property
    def _vllm(self) -> OfflineVllm:
        return OfflineVllm(
            self._folder,
            switch="extractor.engine",
            options_key="extractor.vllm",
            options={"dtype": self._dtype, **self._options},
        )
