"""What all adapters that hold a multimodal LLM share: checkpoint, question, generation, miniature.

A port writes what is special about its model:

    read_tokenizer()     how text becomes ids
    prepare(...)         frames and sound, the order of the prompt's pieces  (CPU, any thread)
    build(place)         the modules of baselines/, loaded
    write_miniature(...) the published files with random weights

The modules have the attribute `llm`, a causal language model of transformers, and the method
`embed(inputs)`, which turns what `prepare` made of a clip into what `llm` reads: as a rule the
prompt's embeddings.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from ovmer.adapters.base import Adapter, Answer, Feeding, Machine, Prepared
from ovmer.baselines.checkpoint import Loading, Part, locate
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import ClipError, PrerequisiteError
from ovmer.baselines.tokenizer import Tokenizer, fit

if TYPE_CHECKING:
    from ovmer.baselines.decoding.answers import Generated, Prompt
    from ovmer.baselines.device import Place

MINIATURE_NEW_TOKENS = 32
"""Miniatures answer at most this long: random weights hardly ever say the end token."""

SLOT = "{subtitle}"

VICUNA_SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
"""The system text of FastChat's first templates, with which the prompts of several models begin."""


@dataclass(frozen=True)
class _Encoded:
    """What `encode` leaves of a clip's inputs."""

    prompt: "Prompt"


class Model(Protocol):
    """The modules of a baseline."""

    llm: Any
    """A causal language model of transformers."""

    def embed(self, inputs: Any) -> "Prompt":
        """The prompt of one clip, with what is seen and heard in it."""
        ...


@dataclass
class Question:
    """What is asked of each clip; `{subtitle}` is replaced by what is said in it."""

    with_subtitle: str = SLOT
    without_subtitle: str = ""

    def __post_init__(self) -> None:
        if self.with_subtitle.count(SLOT) != 1:
            raise PrerequisiteError(f"baseline.prompt.with_subtitle must hold {SLOT} once")

    def about(self, subtitle: str | None) -> str:
        """The question; None leaves the subtitle out, an empty one is a clip without words."""
        if subtitle is None:
            return self.without_subtitle
        return self.with_subtitle.replace(SLOT, subtitle)


@dataclass
class Mllm(Adapter, ABC):
    """An adapter around a multimodal LLM that runs on this machine.

    `quirks=paper` reproduces what the authors' code did by accident, where that is known.
    """

    checkpoint: dict[str, Part] = field(default_factory=dict)
    prompt: Question = field(default_factory=Question)
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    quirks: str = "none"

    known_quirks: ClassVar[tuple[str, ...]] = ("none", "paper")
    streams: ClassVar[bool] = True
    """Whether an engine may answer one prompt at a time; False where `_answer` does more."""
    transformers_only: ClassVar[str] = ""
    """Why no engine but transformers can decode this model; empty where vLLM can as well."""

    def __post_init__(self) -> None:
        self._weights: str | None = None
        self._llm_cache: Path | None = None  # a miniature's is beside its checkpoint
        if self.quirks not in self.known_quirks:
            choices = ", ".join(self.known_quirks)
            raise PrerequisiteError(f"baseline.quirks is {self.quirks!r}; choose from {choices}")

    # -- what a port writes ----------------------------------------------------------------------

    @abstractmethod
    def read_tokenizer(self) -> Tokenizer:
        """The tokenizer of the checkpoint."""

    @abstractmethod
    def build(self, place: "Place") -> Model:
        """The modules with their weights, on `place`."""

    @abstractmethod
    def write_miniature(self, folder: Path, seed: int) -> dict[str, Path]:
        """Write a small random checkpoint in the published layout; returns each part's path."""

    def embed_batch(self, items: Sequence[Prepared]) -> "list[Prompt]":
        """The prompts of some clips, for ports whose encoder takes several clips at once."""
        return [self.embed(item) for item in items]

    def embed(self, item: Prepared) -> "Prompt":
        """The prompt of a clip, for ports that need the clip's random stream as well."""
        return self._model.embed(item.inputs)

    # -- what it gets ----------------------------------------------------------------------------

    @cached_property
    def parts(self) -> dict[str, Path]:
        """Where each part of the checkpoint is; downloads what must be."""
        return locate(self.checkpoint, self.needed_parts, self._weights)

    @property
    def needed_parts(self) -> Sequence[str]:
        """The names of the parts that this configuration reads."""
        return list(self.checkpoint)

    def on(self, machine: Machine) -> Adapter:
        self._weights = machine.weights
        return self

    @property
    def load_notes(self) -> tuple[str, ...]:
        """What was unusual about the weight files, and what was left aside of them."""
        loading: Loading | None = getattr(self, "_loading", None)
        return tuple(loading.notes) if loading else ()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, read once."""
        return self.read_tokenizer()

    def ask(
        self,
        subtitle: str | None,
        limit: int,
        count: Callable[[str], int],
        prompt: Question | None = None,
    ) -> tuple[str, tuple[str, ...]]:
        """The question for a clip, with its subtitle cut to a prompt of `limit` tokens.

        `count` is the length of the whole prompt, in tokens, with a given question in it; `prompt`
        takes the place of the setting of that name. Returns the question and a note if something
        was cut.
        """
        prompt = prompt or self.prompt
        if subtitle is None:
            return prompt.about(None), ()
        kept, cut = fit(subtitle, limit, lambda words: count(prompt.about(words)))
        notes = (f"the subtitle was cut by {cut} tokens to fit the model's context",) if cut else ()
        return prompt.about(kept), notes

    def load(self, machine: Machine) -> None:
        parts = self.parts  # what is missing is said before anything slow is imported
        from ovmer.baselines.decoding.batches import Batches
        from ovmer.baselines.decoding.engine_settings import cache_folder, engine_settings
        from ovmer.baselines.device import resolve
        from ovmer.baselines.llm_folder import LlmFolder

        settings = engine_settings(machine.engine)
        settings.check(self.generation, self.transformers_only)
        self._loading = Loading(self.checkpoint, parts)
        place = replace(resolve(machine.device, machine.dtype), loading=self._loading)
        if settings.needs_folder:
            label = type(self).__module__.rpartition(".")[2]
            folder = LlmFolder(self._llm_cache or cache_folder(settings), label)
            place = replace(place, llm_folder=folder)
        self._device = place.device
        self._model = self.build(place)
        self._engine = settings.start(self._model, self.tokenizer, self.generation, place)
        self._encoder_batches, self._batches = Batches(), Batches()

    def encode(self, batch: list[Prepared]) -> Sequence[Prepared | ClipError]:
        return self._encoder_batches.run(self._encoded, batch)

    def generate(self, batch: list[Prepared]) -> Sequence[str | Answer | ClipError]:
        return self._batches.run(self._answer, batch)

    def _encoded(self, batch: Sequence[Prepared]) -> list[Prepared]:
        """The items with their prompts in the place of their inputs; encoded ones as they are."""
        from ovmer.baselines.transfer import SideStream

        todo = [item for item in batch if not isinstance(item.inputs, _Encoded)]
        with SideStream(self._device) as side:
            moved = [replace(item, inputs=side.moved(item.inputs)) for item in todo]
            prompts = iter(side.kept(self.embed_batch(moved)) if moved else [])
        return [
            item if isinstance(item.inputs, _Encoded) else self._with_prompt(item, next(prompts))
            for item in batch
        ]

    def _with_prompt(self, item: Prepared, prompt: "Prompt") -> Prepared:
        tokens = (len(prompt) + self.generation.max_new_tokens) * self.generation.num_beams
        return replace(item, inputs=_Encoded(prompt), tokens=tokens)

    def _answer(self, batch: Sequence[Prepared]) -> list[Answer | ClipError]:
        prompts = [item.inputs.prompt for item in self._encoded(batch)]
        answers = self._engine.generate(prompts, [item.seed for item in batch])
        return [self._told(answer) for answer in answers]

    @property
    def feeding(self) -> Feeding:
        """A stream for engines that batch by themselves; a port may answer in its own way."""
        from ovmer.baselines.decoding.answers import StreamingEngine

        streams = isinstance(getattr(self, "_engine", None), StreamingEngine)
        return "stream" if streams and self.streams else "batch"

    def stream(self, items: Iterable[Prepared]) -> Iterator[tuple[int, str | Answer | ClipError]]:
        known = list[tuple[int, str | ClipError]]()  # without the engine

        def asked() -> Iterator[tuple[int, tuple["Prompt", int]]]:
            for place, item in enumerate(items):
                if item.inputs is None:
                    known.append((place, ""))
                    continue
                try:
                    (encoded,) = self.encode([item])
                except ClipError as error:
                    encoded = error
                if isinstance(encoded, ClipError):
                    known.append((place, encoded))
                else:
                    yield place, (encoded.inputs.prompt, item.seed)

        for place, answer in self._engine.stream(asked()):  # type: ignore[attr-defined]
            yield place, self._told(answer)
        yield from known

    def _told(self, answer: "Generated | ClipError") -> Answer | ClipError:
        if isinstance(answer, ClipError):
            return answer
        return Answer(self.said(answer), answer.prompt_tokens, answer.new_tokens)

    def said(self, answer: "Generated") -> str:
        """What is recorded of an answer, for ports that need its ids as well."""
        return self.clean(answer.text)

    def clean(self, text: str) -> str:
        """What is recorded of the generated text: one line, as the authors' scripts leave it."""
        return text.replace("\n", " ").replace("\t", " ").strip()

    def miniature(self, folder: Path, seed: int = 0) -> Self:
        paths = self.write_miniature(folder, seed)
        shorter = min(self.generation.max_new_tokens, MINIATURE_NEW_TOKENS)
        small = replace(
            self,
            checkpoint={name: Part(path=str(path)) for name, path in paths.items()},
            generation=replace(self.generation, max_new_tokens=shorter),
        )
        small._llm_cache = folder / "llm"
        return small

    def close(self) -> None:
        if engine := self.__dict__.pop("_engine", None):
            engine.close()
        self.__dict__.pop("_model", None)
