"""The engine `transformers`: padded batches on this machine."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovmer.baselines.errors import ClipError
from ovmer.runners.extraction.engines.base import Outcome, Question, Reply, Sampling
from ovmer.runners.extraction.engines.where import Model

if TYPE_CHECKING:
    from ovmer.baselines.chat import ChatTokenizer
    from ovmer.baselines.decoding.transformers_engine import TransformersEngine


@dataclass
class Tokenised:
    """Questions as token ids of the model's chat template, by their places."""

    fitting: dict[int, list[int]]
    too_long: dict[int, ClipError]


def tokenised(
    tokenizer: "ChatTokenizer", questions: Sequence[Question], context: int, sampling: Sampling
) -> Tokenised:
    """Tokenise questions; those that with their reply exceed the model's context are set apart."""
    found = Tokenised({}, {})
    room = context - sampling.max_tokens
    for place, question in enumerate(questions):
        prompt = tokenizer.chat(question.prompt)
        if len(prompt) <= room:
            found.fitting[place] = prompt
        else:
            found.too_long[place] = ClipError(
                f"the question takes {len(prompt)} tokens but the language model's context of "
                f"{context} leaves it {room}; make the baseline's answers shorter"
            )
    return found


class TransformersCompletion:
    """Questions of like length share a batch; one that does not fit the memory is halved."""

    def __init__(
        self, model: Model, sampling: Sampling, *, device: str, dtype: str, batch_size: int
    ) -> None:
        self._model = model
        self._sampling = sampling
        self._device, self._dtype, self._batch_size = device, dtype, batch_size

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        return {"engine": "transformers", **self._model.version(), "dtype": self._dtype}

    def complete(self, questions: Sequence[Question]) -> Iterator[tuple[int, Outcome]]:
        from ovmer.baselines.chat import context_of
        from ovmer.baselines.decoding.batches import Batches

        context = context_of(self._folder)
        prompts = tokenised(self._tokenizer, questions, context, self._sampling)
        yield from prompts.too_long.items()

        def answer(places: Sequence[int]) -> list[Reply]:
            generated = self._engine.generate(
                [prompts.fitting[place] for place in places],
                [questions[place].seed for place in places],
            )
            limit = self._sampling.max_tokens
            return [
                Reply(each.text, each.new_tokens >= limit, each.prompt_tokens, each.new_tokens)
                for each in generated
            ]

        batches = Batches()
        # The longest first: if the memory is too small for a batch, it is so for the first one.
        order = sorted(prompts.fitting, key=lambda place: -len(prompts.fitting[place]))
        for start in range(0, len(order), self._batch_size):
            places = order[start : start + self._batch_size]
            yield from zip(places, batches.run(answer, places), strict=True)

    def close(self) -> None:
        if self.__dict__.pop("_engine", None):
            from accelerate.utils.memory import clear_device_cache

            clear_device_cache(garbage_collection=True)

    @cached_property
    def _folder(self) -> Path:
        return self._model.fetch()

    @cached_property
    def _tokenizer(self) -> "ChatTokenizer":
        from ovmer.baselines.chat import ChatTokenizer

        return ChatTokenizer(self._folder)

    @cached_property
    def _engine(self) -> "TransformersEngine":
        from ovmer.baselines.chat import load_chat_model
        from ovmer.baselines.decoding.settings import GenerationSettings
        from ovmer.baselines.decoding.transformers_engine import TransformersEngine

        sampling = self._sampling
        settings = GenerationSettings(
            max_new_tokens=sampling.max_tokens,
            do_sample=not sampling.is_greedy,
            temperature=sampling.temperature or 1.0,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            repetition_penalty=sampling.repetition_penalty,
        )
        model = load_chat_model(self._folder, self._device, self._dtype)
        return TransformersEngine(model, self._tokenizer, settings)
