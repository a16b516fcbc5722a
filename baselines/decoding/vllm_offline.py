"""vLLM's offline engine on this machine, stepped by hand: for chat models and for embeddings alike.

vLLM's own `LLM.generate` returns when the last answer is there, so a run that is killed would lose
all of them. Here requests are queued as they come (the engine works on the first ones meanwhile),
and each answer is handed on as it is finished. On a GPU the engine is a process of its own; on a
CPU it is in ours, where it starts in 3 s instead of 28 and nobody waits for another's core.

vLLM is imported when an engine is started, and not before.
"""

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovmer.baselines.errors import CheckpointError, ClipError, PrerequisiteError, first_line
from ovmer.baselines.starter import STARTED_BY

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams

Request = tuple[int, Any, "SamplingParams"]
"""A key of the caller's own, a prompt in any of vLLM's forms, and how its answer is drawn."""

_ON_CPU = {"enforce_eager": True, "kv_cache_memory_bytes": 4 * 2**30}
"""Otherwise vLLM compiles for minutes and takes nearly all of the machine's memory."""
_HERE = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
"""The engine in our process, whose threads are not bound to cores."""
_QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
# Encoders have run in this process, and a process with threads must not be forked.
_SPAWN = {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}

# vLLM 0.32 has two model runners. The newer one, which it prefers on a GPU, penalises token 0 for
# the ids at embeddings; the equality with transformers was shown for this one, on a CPU.
_RUNNER = {"VLLM_USE_V2_MODEL_RUNNER": "0"}

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Of adapters, as vLLM 0.32 knows them."""
_BESIDE_TEXT = re.compile(
    r"(^|[._])(visual|vision|image|audio|merger|connector|.*projector)([._]|$)"
)
"""Parts of names of what is no language model."""

_AT_ONCE = 4
"""Requests that are added between two steps: more would keep finished answers waiting, and on a CPU
the engine itself, for clips that are still being decoded and encoded."""


def imported(choice: str = "engine") -> Any:
    """vLLM's package. Raises PrerequisiteError, naming the key `choice`, where it is missing."""
    for name, value in (_QUIET | _SPAWN | _RUNNER).items():
        os.environ.setdefault(name, value)
    try:
        import vllm
    except ImportError as error:
        raise PrerequisiteError(
            f"{choice}=vllm needs vLLM, which cannot be imported ({error}); install it with "
            f"pip install 'ovmer[vllm]', or say {choice}=transformers"
        ) from error
    return vllm


class OfflineVllm:
    """One engine with one model, from construction to `close`."""

    def __init__(
        self,
        model: Path | str,
        options: Mapping[str, Any],
        *,
        choice: str = "engine",
        key: str = "engine",
        adapter: Path | None = None,
    ) -> None:
        """`options` are arguments of `vllm.LLM`: data type, how much memory, how many GPUs.

        Messages name `choice`, which chooses the engine, and `key`, below which its settings are.
        `adapter` is a folder in peft's layout, whose low-rank adapter all requests use. Raises
        PrerequisiteError where vLLM is missing or cannot start, CheckpointError where it does not
        take the adapter.
        """
        os.environ[STARTED_BY] = str(os.getpid())
        vllm = imported(choice)
        import torch
        from accelerate.utils.memory import clear_device_cache

        clear_device_cache(garbage_collection=True)  # what the model before us had
        if not torch.cuda.is_available():
            options = _ON_CPU | dict(options)
            for name, value in _HERE.items():
                os.environ.setdefault(name, value)
        if adapter is not None:
            options = dict(options) | {"enable_lora": True, "max_lora_rank": _rank_of(adapter)}
        try:
            with _scannable_modules():
                self._engine = vllm.LLM(str(model), **options).llm_engine
        except (RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise PrerequisiteError(
                f"vLLM could not start with {model} ({first_line(error)}; its own messages stand "
                f"above); change {key}.memory or {key}.context"
            ) from error
        self.in_flight = 2 * int(self._engine.vllm_config.scheduler_config.max_num_seqs)
        """Requests that are added before one is finished: twice what the engine decodes at once,
        so that it never waits and main memory does not fill with prompts."""
        is_eager = self._engine.model_config.enforce_eager
        self._stance = "force_eager" if is_eager else "default"
        """Eager engines still compile a function of the sampler: 2 s of the first step on a CPU."""
        self._lora = self._loaded(adapter) if adapter is not None else None

    def _loaded(self, adapter: Path) -> Any:
        from vllm.lora.request import LoRARequest

        request = LoRARequest(adapter.name, 1, str(adapter))
        try:
            taken = self._engine.add_lora(request)
        except (RuntimeError, ValueError) as error:
            self.close()
            raise CheckpointError(
                f"vLLM does not take the adapter {adapter} ({first_line(error)}); was it trained "
                "on this model? engine=transformers merges what vLLM cannot apply"
            ) from error
        assert taken
        return request

    @property
    def context(self) -> int:
        """How many tokens, answer included, the engine takes."""
        return int(self._engine.model_config.max_model_len)

    @property
    def width(self) -> int:
        """The hidden size, which embeddings of a prompt must have."""
        return int(self._engine.model_config.get_hidden_size())

    @property
    def vocabulary(self) -> int:
        """The number of token ids."""
        return int(self._engine.model_config.get_vocab_size())

    def run(
        self,
        requests: Iterable[Request],
        enough: Callable[["RequestOutput"], bool] = lambda output: False,
    ) -> Iterator[tuple[int, "RequestOutput | ClipError"]]:
        """(number of the request, its last output), each as soon as it is finished.

        A request that vLLM does not take, as it is too long or of media that it cannot read, is a
        ClipError.

        Requests are drawn as there is room for them, `in_flight` in all; the first ones are worked
        on meanwhile.

        `enough` sees each output of a request whose `output_kind` asks for more than the final one;
        where it is true the answer ends there. Raises PrerequisiteError where the engine dies. What
        is not finished when the caller stops asking is given up.
        """
        waiting, more = set[str](), iter(requests)
        try:
            while True:
                is_over = True
                # At first as many as there are: the first prompt is worked on before a second one.
                some = min(_AT_ONCE, max(len(waiting), 1), self.in_flight - len(waiting))
                for number, prompt, params in islice(more, some):
                    is_over = False
                    try:
                        self._engine.add_request(
                            str(number), prompt, params, lora_request=self._lora
                        )
                    except ValueError as error:  # of vLLM's checks and of processors
                        yield number, ClipError(f"vLLM does not take it: {first_line(error)}")
                    else:
                        waiting.add(str(number))
                if not waiting:
                    if is_over:
                        return
                    continue
                for output in self._step():
                    key = output.request_id
                    if key not in waiting or not (output.finished or enough(output)):
                        continue
                    if not output.finished:
                        self._engine.abort_request([key])
                    waiting.discard(key)
                    yield int(key), output
        finally:
            if waiting:
                self._engine.abort_request(list(waiting))

    def _step(self) -> "list[RequestOutput]":
        import torch
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            with torch.compiler.set_stance(self._stance):
                return self._engine.step()
        except EngineDeadError as error:
            raise PrerequisiteError(
                "vLLM's engine died (its own messages are above); what was answered is kept, "
                "the same command goes on from there"
            ) from error

    def close(self) -> None:
        """End the engine's processes and give the memory back."""
        self._engine.engine_core.shutdown()


def _rank_of(adapter: Path) -> int:
    """The least rank that vLLM can be started with for an adapter.

    Raises CheckpointError for one that vLLM would apply in part: it knows of adapters in language
    models alone, and leaves others aside with a line in its log.
    """
    from ovmer.baselines.lora import AdapterConfig, read_adapter
    from ovmer.baselines.weight_index import some

    config = AdapterConfig.read(adapter)
    if beside := [name for name in read_adapter(adapter) if _BESIDE_TEXT.search(name)]:
        raise CheckpointError(
            f"{adapter} adapts {some(beside)} too, and vLLM applies adapters to the language model "
            "alone; say engine=transformers"
        )
    rank = max([config.r, *config.rank_pattern.values()])
    return next((each for each in _RANKS if each >= rank), rank)


@contextmanager
def _scannable_modules() -> Iterator[None]:
    """vLLM 0.32 asks every value of every loaded module for its `__dict__` as it starts on a CPU
    (triton_utils/dispatcher.py): the library object of llvmlite, which librosa loads, answers with
    something that is no dictionary, and one of torch's with a warning."""
    name = "llvmlite.binding.ffi"
    module = sys.modules.pop(name, None)
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            yield
    finally:
        if module is not None:
            sys.modules[name] = module
