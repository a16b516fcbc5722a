"""The engine `vllm`: vLLM's offline engine on this machine, with all questions in it at once.

vLLM's own `LLM.generate` returns when the last answer is there, so a run that is killed would lose
all of them. Here the same engine is stepped by hand: every question is queued before the first
step, and each answer is handed on as it is finished.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baselines.errors import PrerequisiteError
from runners.extraction.engines.base import Outcome, Question, Reply, Sampling, first_line
from runners.extraction.engines.local import tokenised
from runners.extraction.engines.where import Model

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput, SamplingParams

    from baselines.chat import ChatTokenizer

_ON_CPU = {"enforce_eager": True, "kv_cache_memory_bytes": 4 * 2**30}
"""Otherwise vLLM compiles for minutes and takes nearly all of the machine's memory."""
_QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}


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
        llm = self._llm
        context = llm.llm_engine.model_config.max_model_len
        prompts = tokenised(self._tokenizer, questions, context, self._sampling)
        yield from prompts.too_long.items()
        engine, waiting = llm.llm_engine, set[str]()
        try:
            for place, ids in prompts.fitting.items():
                engine.add_request(
                    str(place), {"prompt_token_ids": ids}, self._params(questions[place].seed)
                )
                waiting.add(str(place))
            while waiting:
                for output in self._step():
                    if output.finished:
                        waiting.discard(output.request_id)
                        yield int(output.request_id), self._reply(output)
        finally:
            if waiting:
                engine.abort_request(list(waiting))

    def _step(self) -> "list[RequestOutput]":
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            return self._llm.llm_engine.step()
        except EngineDeadError as error:
            raise PrerequisiteError(
                "vLLM's engine died (its own messages stand above); what was answered is kept, "
                "the same command goes on from there"
            ) from error

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
        llm = self.__dict__.pop("_llm", None)
        if llm is not None:
            llm.llm_engine.engine_core.shutdown()

    @cached_property
    def _folder(self) -> Path:
        return self._model.fetch()

    @cached_property
    def _tokenizer(self) -> "ChatTokenizer":
        from baselines.chat import ChatTokenizer

        return ChatTokenizer(self._folder)

    @cached_property
    def _llm(self) -> "LLM":
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        try:
            import torch
            from vllm import LLM
        except ImportError as error:
            raise PrerequisiteError(
                f"extractor.engine=vllm needs vLLM, which cannot be imported ({error}); install "
                "it with pip install 'ovmer[vllm]', or say extractor.engine=transformers"
            ) from error
        from accelerate.utils.memory import clear_device_cache

        clear_device_cache(garbage_collection=True)  # what the baseline before us had
        options = self._options if torch.cuda.is_available() else _ON_CPU | self._options
        try:
            return LLM(str(self._folder), dtype=self._dtype, **options)
        except (RuntimeError, ValueError, TypeError) as error:
            raise PrerequisiteError(
                f"vLLM could not start with {self._folder} ({first_line(error)}; its own messages "
                "stand above); mend extractor.vllm, e.g. gpu_memory_utilization or max_model_len"
            ) from error
