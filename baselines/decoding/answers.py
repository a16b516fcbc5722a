"""What every engine gives: answers, and where they end."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Protocol, runtime_checkable

from torch import Tensor

from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import ClipError
from ovmer.baselines.tokenizer import Tokenizer


@dataclass(frozen=True)
class Conditioned:
    """Token ids for a language model that looks at something beside them, in layers of its own.

    Its `generate` takes that as `media` (rows x ...); all prompts of a batch have it in one shape.
    """

    ids: Sequence[int]
    media: Tensor

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Perceived:
    """Token ids with placeholders, and what the processor of a chat model made of the media.

    All go into `generate` under their names: `per_token` has one row of the prompt's length,
    `features` are those of all prompts one after another, `switches` hold for the whole batch.
    """

    ids: Sequence[int]
    per_token: Mapping[str, Tensor]
    features: Mapping[str, Tensor]
    switches: Mapping[str, bool] = field(default_factory=dict)
    packed: Collection[str] = ()
    """Features that stand one after another along their last axis instead."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def kind(self) -> tuple[tuple[str, object], ...]:
        """What must be the same for all prompts of a batch."""
        shapes = {
            name: tuple(each.shape[:-1] if name in self.packed else each.shape[1:])
            for name, each in self.features.items()
        }
        return tuple(sorted((shapes | dict(self.switches)).items()))


Prompt = Tensor | Sequence[int] | Conditioned | Perceived
"""Embeddings (length x hidden size), or token ids, alone or with media beside them."""


@dataclass(frozen=True)
class Generated:
    """One answer. `new_tokens` leaves out the end token."""

    text: str
    ids: tuple[int, ...]
    prompt_tokens: int

    @property
    def new_tokens(self) -> int:
        return len(self.ids)


class Engine(Protocol):
    """Prompts -> texts."""

    def generate(
        self, prompts: Sequence[Prompt], seeds: Sequence[int]
    ) -> Sequence[Generated | ClipError]:
        """One answer per prompt, in their order. `seeds` start the random stream of each.

        A ClipError in a place stands for a prompt that failed alone.
        """
        ...

    def close(self) -> None:
        """Free what answering took."""


@runtime_checkable
class StreamingEngine(Engine, Protocol):
    """An engine that keeps many prompts in flight by itself."""

    def stream(
        self, asked: Iterable[tuple[int, tuple[Prompt, int]]]
    ) -> Iterator[tuple[int, Generated | ClipError]]:
        """(number, (prompt, seed)), drawn as there is room -> (number, answer), in any order, each
        as soon as it is known.

        Raises PrerequisiteError where no further prompt can be answered.
        """
        ...


class Answers:
    """Reads rows of new ids; the same for all engines."""

    def __init__(self, tokenizer: Tokenizer, settings: GenerationSettings) -> None:
        self._tokenizer = tokenizer
        self._settings = settings
        # A character takes at most four tokens (its bytes); one more for the blank that
        # a tokenizer swallows at the start of a text.
        self._window = 4 * max(map(len, settings.stop), default=0) + 1

    def limit(self, prompt_tokens: int) -> int:
        """How many tokens the answer to a prompt may have."""
        settings = self._settings
        if settings.max_length == 0:
            return settings.max_new_tokens
        return max(0, min(settings.max_new_tokens, settings.max_length - prompt_tokens))

    def has_stop(self, ids: Sequence[int]) -> bool:
        """Whether the newest of these ids complete one of the strings that end an answer."""
        if not self._settings.stop:
            return False
        text = self._tokenizer.decode(ids[-self._window :])
        return any(stop in text for stop in self._settings.stop)

    def spelled_stops(self, vocabulary: int) -> list[int]:
        """The ids whose own text holds a string that ends an answer."""
        if not self._settings.stop:
            return []
        return [token for token in range(vocabulary) if self.has_stop([token])]

    def until_stop(self, ids: Sequence[int]) -> Sequence[int]:
        """The ids up to the one that completes such a string, for engines that run past it."""
        if not self._settings.stop:
            return ids
        return next((ids[:n] for n in range(1, len(ids)) if self.has_stop(ids[:n])), ids)

    def read(self, ids: Sequence[int], prompt_tokens: int) -> Generated:
        """The answer in a row of new ids, which may go on after its end token."""
        stops = self._tokenizer.stop_ids
        kept = list(takewhile(lambda token: token not in stops, ids))
        text = self._tokenizer.decode(kept)
        for stop in self._settings.stop:
            text = text.split(stop, 1)[0]
        return Generated(text, tuple(kept), prompt_tokens)
