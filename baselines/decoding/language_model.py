"""A language model with text prompts: an engine behind the cache of answers."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovmer.baselines.decoding.answer_cache import AnswerCache, Question
from ovmer.baselines.decoding.answers import (
    Answered,
    Asked,
    Engine,
    Generated,
    StreamingEngine,
    TextEngine,
)
from ovmer.baselines.decoding.chat_models import ChatModelSource
from ovmer.baselines.decoding.engine_base import EngineSettings
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import ClipError, PrerequisiteError
from ovmer.baselines.gpu import OWN, resolve_dtype

if TYPE_CHECKING:
    from ovmer.baselines.chat import ChatTokenizer


class LanguageModel:
    """Prompts -> answers; loads nothing as long as every answer is known."""

    def __init__(self, engine: TextEngine, generation: GenerationSettings, cache: Path) -> None:
        self.engine = engine
        self.generation = generation
        self._cache = cache
        self.known = 0
        """Questions whose answer was in the cache."""
        self.asked = 0
        """Questions that were put to the engine."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything that shapes an answer, but for the question."""
        return {**self.engine.identity, **self.generation.as_sampling()}

    def ask(
        self, prompts: Sequence[str], seed: int = 0
    ) -> Iterator[tuple[int, Generated | ClipError]]:
        """(index of the prompt, answer), in any order; what is known comes first.

        The same prompt under the same seed is the same question, and has the same answer. Raises
        PrerequisiteError where the engine or the cache cannot go on.
        """
        indices: dict[Question, list[int]] = {}
        for index, prompt in enumerate(prompts):
            indices.setdefault((prompt, self._start(prompt, seed)), []).append(index)
        questions = list(indices)
        with AnswerCache(self._cache, self.identity) as cache:
            unknown = []
            for question, known in zip(questions, cache.find(questions), strict=True):
                if known is None:
                    unknown.append(question)
                    continue
                self.known += 1
                yield from ((index, known) for index in indices[question])
            if not unknown:
                return
            for number, answer in self.engine.stream(enumerate(unknown)):
                question = unknown[number]
                self.asked += 1
                # One with a note was prompted differently from `identity`.
                if not isinstance(answer, ClipError) and not answer.notes:
                    answer = cache.keep(question, answer)
                yield from ((index, answer) for index in indices[question])

    def _start(self, prompt: str, seed: int) -> int:
        """The start of a prompt's random stream: 31 bits of a hash of both; greedy has none."""
        if not self.generation.do_sample:
            return 0
        digest = hashlib.blake2b(f"{seed}:{prompt}".encode("utf-8", "replace"), digest_size=4)
        return int.from_bytes(digest.digest()) >> 1


class LocalTextEngine:
    """A chat model on this machine, loaded when the first question is asked."""

    def __init__(
        self,
        source: ChatModelSource,
        settings: EngineSettings,
        generation: GenerationSettings,
        *,
        device: str,
        dtype: str,
    ) -> None:
        """`dtype=auto` is the checkpoint's own type on a GPU, float32 on the CPU.

        Raises PrerequisiteError for a generation setting that the engine cannot follow.
        """
        settings.check(generation)
        self._source, self._settings, self._generation = source, settings, generation
        self._device, self._dtype = device, resolve_dtype(dtype, device)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        return {
            "engine": self._settings.name,
            **self._source.version(),
            "dtype": "own" if self._dtype == OWN else self._dtype,
            **self._settings.switches,
        }

    def stream(self, asked: Asked) -> Answered:
        """Answer user messages; one that does not fit the context with its answer is a ClipError.

        Raises PrerequisiteError where the model cannot be loaded, and where an answer alone may
        fill the context.
        """
        too_long = list[tuple[int, ClipError]]()
        longest = self._generation.max_new_tokens
        room = self._context - longest
        if room < 1:
            raise PrerequisiteError(
                f"max_new_tokens={longest} leaves a question no room in the language model's "
                f"context of {self._context}; lower it under extractor.presets"
            )

        def fitting() -> Asked:
            for key, (text, seed) in asked:
                ids = self._tokenizer.chat(text)
                if len(ids) <= room:
                    yield key, (ids, seed)
                    continue
                problem = (
                    f"the question takes {len(ids)} tokens but the language model's context of "
                    f"{self._context} leaves it {room}; make the baseline's answers shorter, or "
                    "lower max_new_tokens under extractor.presets"
                )
                too_long.append((key, ClipError(problem)))

        # Questions of like length share a batch, with less padding.
        asked = sorted(asked, key=lambda each: -len(each[1][0]))
        if isinstance(self._engine, StreamingEngine):
            yield from self._engine.stream(fitting())
        else:
            yield from self._batched(list(fitting()))
        yield from too_long

    def _batched(self, questions: list[tuple[int, tuple[list[int], int]]]) -> Answered:
        """A batch that does not fit the memory is halved."""
        from ovmer.baselines.decoding.batches import Batches

        def answer(batch: Sequence[tuple[list[int], int]]) -> Sequence[Generated | ClipError]:
            return self._engine.generate(*zip(*batch, strict=True))

        batches, settings = Batches(), self._settings
        # The longest first: if the memory is too small for a batch, it is so for the first one.
        rest = sorted(questions, key=lambda each: -len(each[1][0]))
        while rest:
            longest = len(rest[0][1][0]) + self._generation.max_new_tokens
            fits = settings.batch_tokens // longest if settings.batch_tokens else len(rest)
            size = max(1, min(settings.batch_size, fits))
            batch, rest = rest[:size], rest[size:]
            keys, items = zip(*batch, strict=True)
            yield from zip(keys, batches.run(answer, items), strict=True)

    def close(self) -> None:
        """Free the model."""
        if engine := self.__dict__.pop("_engine", None):
            engine.close()
            del engine
            from accelerate.utils.memory import clear_device_cache

            clear_device_cache(garbage_collection=True)

    @cached_property
    def _folder(self) -> Path:
        return self._source.fetch()

    @cached_property
    def _tokenizer(self) -> "ChatTokenizer":
        from ovmer.baselines.chat import ChatTokenizer

        return ChatTokenizer(self._folder)

    @cached_property
    def _context(self) -> int:
        from ovmer.baselines.chat import context_of
        from ovmer.baselines.decoding.vllm_engine import VllmEngine

        engine = self._engine
        return engine.context if isinstance(engine, VllmEngine) else context_of(self._folder)

    @cached_property
    def _engine(self) -> Engine:
        return self._settings.start_text(
            self._folder, self._tokenizer, self._generation, self._device, self._dtype
        )
