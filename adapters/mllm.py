"""The base class of adapters that hold a multimodal LLM: checkpoint, question, generation.

A port declares its model and its prompt, and writes what is special about it:

    model_class      "module:Class" of the modules; the class has `load(PARTS..., placement)`, the
                     module has `write_miniature(folder, seed)`, and `read_sizes(PARTS...)` where
                     the prompt depends on sizes
    tokenizer_part   the part of the checkpoint that holds tokenizer.model
    template         the prompt's texts before, between and after the media
    prepare(...)     frames and sound of a clip, and the prompt around them  (CPU, any thread)

PARTS are the parts of the checkpoint that the parameters name. The modules have the attribute
`llm`, a causal language model of transformers, and the method `embed(inputs)`, which turns what
`prepare` made of a clip into what `llm` reads: as a rule the prompt's embeddings. After `load` an
adapter holds them as `modules`, and what decodes as `engine`.
"""

import inspect
from abc import ABC
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, cast

from ovmer.adapters.base import Adapter, Answer, Feeding, Machine, Prepared
from ovmer.adapters.question import QuestionTemplate
from ovmer.adapters.streaming import Encoded, answered, is_encoded
from ovmer.adapters.thinking import one_line
from ovmer.baselines.checkpoint import TUNINGS, CheckpointPart, Loading, locate
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import ClipError, PrerequisiteError
from ovmer.baselines.tokenizer import LlamaTokenizer, Tokenizer, fit

if TYPE_CHECKING:
    from ovmer.baselines.decoding.answers import Generated, Prompt, StreamingEngine
    from ovmer.baselines.decoding.hidden_states import PromptStates
    from ovmer.baselines.device import Placement
    from ovmer.baselines.transfer import SideStream

MINIATURE_NEW_TOKENS = 32
"""Miniatures answer at most this long: random weights hardly ever say the end token."""

VICUNA_SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
"""The system text of FastChat's first templates, with which the prompts of several models begin."""


class MllmModules(Protocol):
    """The modules of a baseline."""

    llm: Any
    """A causal language model of transformers."""

    def embed(self, inputs: Any) -> "Prompt":
        """The prompt of one clip, with what is seen and heard in it."""
        ...


@dataclass
class Mllm(Adapter, ABC):
    """An adapter around a multimodal LLM that runs on this machine."""

    checkpoint: dict[str, CheckpointPart] = field(default_factory=dict)
    prompt: QuestionTemplate = field(default_factory=QuestionTemplate)
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    bug_compat: bool = False
    """Reproduce what the authors' code did by accident, where such a thing is known."""

    model_class: ClassVar[str] = ""
    tokenizer_part: ClassVar[str] = "llm"
    template: ClassVar[Sequence[str]] = ()
    """Texts around the media, with `{question}` in one of them; each is encoded by itself."""
    streams: ClassVar[bool] = True
    """Whether an engine may answer one prompt at a time; False where `_answer` does more."""
    transformers_only: ClassVar[str] = ""
    """Why no engine but transformers can decode this model; empty where vLLM can as well."""

    def __post_init__(self) -> None:
        self._weights: str | None = None
        self._baseline = "BASELINE"
        self._llm_cache: Path | None = None  # a miniature's is beside its checkpoint

    # -- what a port may replace -----------------------------------------------------------------

    def read_tokenizer(self) -> Tokenizer:
        """The tokenizer of the checkpoint."""
        return LlamaTokenizer(self.parts[self.tokenizer_part] / "tokenizer.model")

    @property
    def load_options(self) -> Mapping[str, Any]:
        """Arguments of the model's `load` beside the parts of the checkpoint, or in their stead."""
        return {}

    def build(self, placement: "Placement") -> MllmModules:
        """The modules with their weights, on the device and in the precision of `placement`."""
        module, name = self._model_module, self.model_class.partition(":")[2]
        load = getattr(module, name).load
        model: MllmModules = load(
            **{**self._parts_of(load), **self.load_options}, placement=placement
        )
        return model

    @cached_property
    def sizes(self) -> Any:
        """Sizes that the prompt depends on, read before the weights: a `PromptSizes`."""
        read_sizes = self._model_module.read_sizes
        return read_sizes(**self._parts_of(read_sizes))

    def write_miniature(self, folder: Path, seed: int) -> dict[str, Path]:
        """Write a small random checkpoint in the published layout; returns each part's path.

        Raises PrerequisiteError where the model has none.
        """
        write = getattr(self._model_module, "write_miniature", None)
        if write is None:
            module = self.model_class.partition(":")[0]
            raise PrerequisiteError(
                f"dry_run=true needs a random miniature, but {module} has no write_miniature"
            )
        paths: dict[str, Path] = write(folder, seed)
        return paths

    @property
    def prompt_limit(self) -> int:
        """Tokens that a prompt may have, so that the longest answer fits behind it."""
        return int(self.sizes.context) - self.generation.max_new_tokens

    def texts(self, question: str, template: Sequence[str] | None = None) -> list[list[int]]:
        """Token ids of the template's texts, the first of which begins with the start token.

        `template` replaces the port's own if a clip needs another.
        """
        encode = self.tokenizer.encode
        first, *rest = (
            encode(text.replace("{question}", question)) for text in template or self.template
        )
        return [[self.tokenizer.bos_id, *first], *rest]

    def embed_batch(self, items: Sequence[Prepared]) -> "list[Prompt]":
        """The prompts of some clips, for ports whose encoder takes several clips at once."""
        return [self.embed(item) for item in items]

    def embed(self, item: Prepared) -> "Prompt":
        """The prompt of a clip, for ports that need the clip's random stream as well."""
        return self.modules.embed(item.inputs)

    def to_answer(self, generated: "Generated", item: Prepared) -> Answer:
        """What is recorded of an answer, for models that think before they answer."""
        return Answer(self.said(generated), generated.prompt_tokens, generated.new_tokens)

    def said(self, generated: "Generated") -> str:
        """The recorded text of an answer, for ports that need its ids as well."""
        return self.clean(generated.text)

    def clean(self, text: str) -> str:
        """The recorded form of the generated text: one line, as in the authors' scripts."""
        return one_line(text)

    # -- what it gets ----------------------------------------------------------------------------

    @cached_property
    def parts(self) -> dict[str, Path]:
        """Path of each part of the checkpoint; downloads missing ones."""
        return locate(self.checkpoint, self.needed_parts, self._weights, self._baseline)

    @property
    def needed_parts(self) -> Sequence[str]:
        """The names of the parts that this configuration reads, adapters last."""
        return [*self.own_parts, *sorted(TUNINGS & self.checkpoint.keys())]

    @property
    def own_parts(self) -> Sequence[str]:
        """`needed_parts` of the model as it was published."""
        return [name for name in self.checkpoint if name not in TUNINGS]

    def on(self, machine: Machine) -> Adapter:
        self._weights, self._baseline = machine.weights, machine.baseline
        return self

    def refuse_adapters(self) -> None:
        """Raises PrerequisiteError where low-rank adapters are named for a model on a server."""
        if named := sorted(TUNINGS & self.checkpoint.keys()):
            raise PrerequisiteError(
                f"baseline.checkpoint.{named[0]} cannot be given to a server; start the server "
                "with it, or say engine=transformers"
            )

    @property
    def load_notes(self) -> tuple[str, ...]:
        """Notes on the weight files: anything unusual, and the tensors ignored."""
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
        prompt: QuestionTemplate | None = None,
    ) -> tuple[str, tuple[str, ...]]:
        """The question for a clip, with its subtitle cut to a prompt of `limit` tokens.

        `count` is the length of the whole prompt, in tokens, with a given question in it; `prompt`
        replaces the setting of that name. Returns the question and a note if something
        was cut.
        """
        prompt = prompt or self.prompt
        if subtitle is None:
            return prompt.about(None), ()
        kept, cut = fit(subtitle, limit, lambda words: count(prompt.about(words)))
        notes = (f"the subtitle was cut by {cut} tokens to fit the model's context",) if cut else ()
        return prompt.about(kept), notes

    def asking(self, question: str) -> Self:
        asked = copy(self)
        asked.prompt = QuestionTemplate(without_subtitle=question)
        return asked

    def fit_question(
        self,
        subtitle: str | None,
        positions: int,
        prompt: QuestionTemplate | None = None,
        template: Sequence[str] | None = None,
    ) -> tuple[str, tuple[str, ...]]:
        """The question for a clip whose media take `positions` of the prompt.

        Its subtitle is cut where `texts` and media would exceed `prompt_limit`, with a note.
        """

        def count(question: str) -> int:
            return positions + sum(map(len, self.texts(question, template)))

        return self.ask(subtitle, self.prompt_limit, count, prompt)

    @property
    def _model_module(self) -> Any:
        return import_module(self.model_class.partition(":")[0])

    def _parts_of(self, function: Callable[..., Any]) -> dict[str, Path]:
        """Parts of the checkpoint that the parameters of a function name."""
        wanted = inspect.signature(function).parameters
        return {name: path for name, path in self.parts.items() if name in wanted}

    def load(self, machine: Machine) -> None:
        parts = self.parts  # missing parts are reported before any slow import
        from ovmer.baselines.decoding.batches import Batches
        from ovmer.baselines.decoding.engine_settings import cache_folder, engine_settings
        from ovmer.baselines.decoding.finite import FirstOrigin
        from ovmer.baselines.device import resolve
        from ovmer.baselines.llm_folder import LlmFolder
        from ovmer.baselines.transfer import SideStream

        settings = engine_settings(machine.engine)
        settings.check(self.generation, self.transformers_only)
        self._loading = Loading(self.checkpoint, parts)
        placement = resolve(machine.device, machine.dtype, settings.gpus)
        placement = replace(placement, loading=self._loading)
        if settings.needs_folder:
            label = type(self).__module__.rpartition(".")[2]
            folder = LlmFolder(self._llm_cache or cache_folder(settings), label)
            placement = replace(placement, llm_folder=folder)
        self.modules = self.build(placement)
        self.engine = settings.start(self.modules, self.tokenizer, self.generation, placement)
        self._side = SideStream(placement.device)
        self._encoding = Lock()
        self._encoder_batches, self._batches = Batches(), Batches()
        self._trace = FirstOrigin()

    @property
    def batch_tokens(self) -> int:
        return getattr(getattr(self, "engine", None), "batch_tokens", 0)

    def encode(self, batch: list[Prepared]) -> Sequence[Prepared | ClipError]:
        """Items that do not fit beside what is being generated stay as they are: `generate` encodes
        them when nothing else runs."""
        if all(map(is_encoded, batch)):
            return batch
        with self._encoding:
            encoded = self._encoder_batches.fitting(self._encoded, batch)
        return [*encoded, *batch[len(encoded) :]]

    def generate(self, batch: list[Prepared]) -> Sequence[str | Answer | ClipError]:
        encoded = self._encode_alone(batch)
        ready = [each for each in encoded if isinstance(each, Prepared) and each.inputs is not None]
        answers = iter(self._batches.run(self._answer, ready, exclusive=self._encoding))
        return [
            item if isinstance(item, ClipError) else "" if item.inputs is None else next(answers)
            for item in encoded
        ]

    def _alone(self, item: Prepared) -> Prepared | ClipError:
        (encoded,) = self._encode_alone([item])
        return encoded

    def _encode_alone(self, batch: Sequence[Prepared]) -> Sequence[Prepared | ClipError]:
        """Encode what is not yet, while neither `encode` nor an engine of this process runs."""
        if all(map(is_encoded, batch)):
            return batch
        with self._encoding:
            return self._encoder_batches.run(self._encoded, batch)

    def prompt_states(self, item: Prepared) -> "PromptStates | None":
        """Hidden states of a clip's prompt (engine=transformers); None where it has none."""
        from ovmer.baselines.splice import watching

        with watching() as features:
            encoded = self._alone(item)
        if isinstance(encoded, ClipError) or encoded.inputs is None:
            return None
        states: PromptStates = self.engine.prompt_states(encoded.inputs.prompt, features)  # type: ignore[attr-defined]
        return states

    def _encoded(self, batch: Sequence[Prepared]) -> list[Prepared | ClipError]:
        """The items with their inputs replaced by prompts; encoded ones unchanged.

        One whose prompt is NaN or infinite is an error and reaches no engine.
        """
        if not (todo := [item for item in batch if not is_encoded(item)]):
            return list(batch)
        from ovmer.baselines.decoding.finite import are_finite

        with self._side as side:
            prompts = side.kept(self._prompts(todo, side))
            finite = are_finite(prompts)
        made = iter(map(self._with_prompt, todo, prompts, finite))
        return [item if is_encoded(item) else next(made) for item in batch]

    def _prompts(self, items: Sequence[Prepared], side: "SideStream") -> "list[Prompt]":
        return self.embed_batch([replace(each, inputs=side.moved(each.inputs)) for each in items])

    def _with_prompt(
        self, item: Prepared, prompt: "Prompt", is_finite: bool
    ) -> Prepared | ClipError:
        if not is_finite:
            from ovmer.baselines.decoding.answers import NotFinite

            def again() -> None:
                with self._side as side:
                    self._prompts([item], side)

            where = self._trace(self.modules, again)
            return NotFinite("the encoders' output for the clip is", where=where)
        tokens = (len(prompt) + self.generation.max_new_tokens) * self.generation.num_beams
        return replace(item, inputs=Encoded(prompt), tokens=tokens)

    def _answer(self, batch: Sequence[Prepared]) -> list[Answer | ClipError]:
        prompts = [item.inputs.prompt for item in batch]
        answers = self.engine.generate(prompts, [item.seed for item in batch])
        return [self._recorded(answer, item) for answer, item in zip(answers, batch, strict=True)]

    @property
    def feeding(self) -> Feeding:
        """A stream for engines that batch by themselves; a port may answer in its own way."""
        from ovmer.baselines.decoding.answers import StreamingEngine

        streams = isinstance(getattr(self, "engine", None), StreamingEngine)
        return "stream" if streams and self.streams else "batch"

    def limit_batches(self, clips: int, tokens: int) -> None:
        if (limit := getattr(self.engine, "limit", None)) is not None:
            limit(clips, tokens)

    def stream(self, items: Iterable[Prepared]) -> Iterator[tuple[int, str | Answer | ClipError]]:
        engine = cast("StreamingEngine", self.engine)
        for index, item, answer in answered(engine, items, self._alone, self._encoding):
            yield index, self._recorded(answer, item)

    def _recorded(self, answer: "Generated | ClipError", item: Prepared) -> Answer | ClipError:
        return answer if isinstance(answer, ClipError) else self.to_answer(answer, item)

    def miniature(self, folder: Path, seed: int = 0) -> Self:
        paths = self.write_miniature(folder, seed)
        shorter = min(self.generation.max_new_tokens, MINIATURE_NEW_TOKENS)
        small = replace(
            self,
            checkpoint={name: CheckpointPart(path=str(path)) for name, path in paths.items()},
            generation=replace(self.generation, max_new_tokens=shorter),
        )
        small._llm_cache = folder / "llm"
        return small

    def close(self) -> None:
        if engine := self.__dict__.pop("engine", None):
            engine.close()
        self.__dict__.pop("modules", None)
