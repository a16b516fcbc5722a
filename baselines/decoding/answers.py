"""Prompts, answers, the interface of the engines, and where an answer ends. Imports no torch."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import ClipError, Status
from ovmer.baselines.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor


T = TypeVar("T")


@dataclass(frozen=True)
class ConditionedPrompt:
    """Token ids for a language model with cross-attention to other features, in layers of its own.

    Its `generate` takes that as `media` (rows x ...); all prompts of a batch have it in one shape.
    """

    ids: Sequence[int]
    media: "Tensor"

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class MediaPrompt:
    """Token ids with placeholders, and what the processor of a chat model made of the media.

    All go into `generate` under their names: `per_token` has one row of the prompt's length,
    `features` are those of all prompts one after another, `switches` hold for the whole batch.
    """

    ids: Sequence[int]
    per_token: Mapping[str, "Tensor"]
    features: Mapping[str, "Tensor"]
    switches: Mapping[str, bool] = field(default_factory=dict)
    packed: Collection[str] = ()
    """Features that are concatenated along their last axis instead."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def kind(self) -> tuple[tuple[str, object], ...]:
        """Shapes and switches that all prompts of a batch must share."""
        shapes = {
            name: tuple(each.shape[:-1] if name in self.packed else each.shape[1:])
            for name, each in self.features.items()
        }
        return tuple(sorted((shapes | dict(self.switches)).items()))


@dataclass(frozen=True)
class VllmPrompt:
    """A prompt in a form of vLLM's own: rendered text with media, which vLLM processes itself."""

    request: Mapping[str, Any]
    length: int
    """In tokens, each placeholder expanded."""

    def __len__(self) -> int:
        return self.length


Prompt: TypeAlias = "Tensor | Sequence[int] | ConditionedPrompt | MediaPrompt | VllmPrompt"
"""Embeddings (length x hidden size), or token ids, alone or with media beside them."""


class NotFinite(ClipError):
    """Scores or embeddings that are NaN or infinite: words drawn from them would mean nothing."""

    status = Status.NOT_FINITE

    def __init__(self, what: str, key: str = "machine.dtype", where: str = "") -> None:
        """`where` says in which layer they arose, if that was looked for."""
        place = f" ({where})" if where else ""
        super().__init__(
            f"{what} NaN or infinite{place}, as float16 overflows; set {key}=bfloat16, or float32"
        )


@dataclass(frozen=True)
class Generated:
    """One answer, before any clean-up. The counts are None where a server does not tell them."""

    text: str
    ids: tuple[int, ...] = ()
    """The new token ids without the end token; empty for a server that answers in text."""
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    is_cut: bool = False
    """True where the answer was ended by its limit of tokens."""
    thinking: str = ""
    """The part that a server itself has separated from the text."""
    notes: tuple[str, ...] = ()
    """Notes for the clip's record; one sentence each."""

    def __post_init__(self) -> None:
        if self.new_tokens is None and self.ids:
            object.__setattr__(self, "new_tokens", len(self.ids))


Asked: TypeAlias = Iterable[tuple[int, tuple[Any, int]]]
"""(key, (prompt, seed)): a key of the caller's own, and where the prompt's random stream starts."""
Answered: TypeAlias = Iterator[tuple[int, Generated | ClipError]]
"""(key, answer), in any order, each as soon as it is known."""


class Engine(Protocol):
    """Prompts -> texts."""

    def generate(
        self, prompts: Sequence[Prompt], seeds: Sequence[int]
    ) -> Sequence[Generated | ClipError]:
        """One answer per prompt, in their order. `seeds` start the random stream of each.

        A ClipError marks a prompt that failed alone.
        """
        ...

    def close(self) -> None:
        """Free what answering took."""


@runtime_checkable
class StreamingEngine(Engine, Protocol):
    """An engine that keeps many prompts in flight by itself."""

    def generate(
        self, prompts: Sequence[Prompt], seeds: Sequence[int]
    ) -> list[Generated | ClipError]:
        """As `Engine.generate`. Raises as `stream` does."""
        return in_order(self.stream(enumerate(zip(prompts, seeds, strict=True))))

    def stream(self, asked: Asked) -> Answered:
        """Answer prompts, which are drawn as there is room.

        Raises PrerequisiteError where no further prompt can be answered.
        """
        ...


class TextEngine(Protocol):
    """A language model that takes one user message as text. Making one loads nothing."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Model and engine: all that shapes an answer but question and sampling.

        Raises PrerequisiteError where the model is not to be had.
        """

    def stream(self, asked: Asked) -> Answered:
        """Answer prompts of text. Raises PrerequisiteError where no further one can be answered;
        answers yielded before are kept."""

    def close(self) -> None:
        """Free what answering took."""


def in_order(stream: Iterator[tuple[int, T]]) -> list[T]:
    """The answers to prompts whose keys are 0, 1, 2, ..."""
    found = dict(stream)
    return [found[index] for index in range(len(found))]


class AnswerReader:
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
        text = whole = self._tokenizer.decode(kept)
        for stop in self._settings.stop:
            text = text.split(stop, 1)[0]
        is_cut = text == whole and len(kept) >= self.limit(prompt_tokens)
        return Generated(text, tuple(kept), prompt_tokens, len(kept), is_cut)
