"""Chat language models that read the subtitle and nothing else: what does the text alone know?

Any chat model in transformers' layout is one by a yaml file, on every engine; so is a GGUF file.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, ClassVar

from ovmer.adapters.base import SUBTITLE, Adapter, Answer, Machine, Prepared
from ovmer.adapters.mllm import Mllm
from ovmer.adapters.question import SLOT, QuestionTemplate
from ovmer.adapters.registry import register
from ovmer.adapters.streaming import Encoded
from ovmer.adapters.thinking import check_format, without_thinking
from ovmer.baselines.cache import LANGUAGE_MODELS
from ovmer.baselines.cache import cache_folder as user_cache
from ovmer.baselines.checkpoint import Loading
from ovmer.baselines.gguf import SUFFIX, unpacked
from ovmer.baselines.tokenizer import Tokenizer

if TYPE_CHECKING:
    from ovmer.baselines.chat import ChatTokenizer
    from ovmer.baselines.decoding.answers import Generated

_ASK = (
    "As an expert in the field of emotions, please focus on {clues} to discern clues related to "
    "the emotions of the individual. Please provide a detailed description and ultimately predict "
    "the emotional state of the individual."
)
"""The OV-MER authors' question (MERTools 89120b78, MER2025_Track23), without what is seen."""
_GUESS = "no words are known of this clip, so the answer is a guess"


def question() -> QuestionTemplate:
    """The authors' question, about the subtitle alone."""
    ask = _ASK.format(clues="the subtitle content")
    return QuestionTemplate(f"Subtitle content of this video: {{subtitle}}; {ask}", ask)


@register("chat_llm")
@dataclass
class ChatLlm(Mllm):
    """A chat model by its checkpoint, the part called `model`: a folder or a GGUF file."""

    prompt: QuestionTemplate = field(default_factory=question)
    thinking: str = "auto"
    """Format of the thinking part of an answer, see thinking.py."""

    modalities = frozenset({SUBTITLE})
    tokenizer_part: ClassVar[str] = "model"

    _is_served = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_format(self.thinking)

    @cached_property
    def _folder(self) -> Path:
        path = self.parts["model"]
        if path.suffix != SUFFIX:
            return path
        return unpacked(path, self._llm_cache or user_cache(LANGUAGE_MODELS))

    def read_tokenizer(self) -> Tokenizer:
        return self._chat

    @cached_property
    def _chat(self) -> "ChatTokenizer":
        from ovmer.baselines.chat import ChatTokenizer

        return ChatTokenizer(self._folder)

    def write_miniature(self, folder: Path, seed: int) -> dict[str, Path]:
        from ovmer.baselines.chat import write_miniature

        write_miniature(folder, seed)
        return {"model": folder}

    def load(self, machine: Machine) -> None:
        from ovmer.baselines.decoding.batches import Batches
        from ovmer.baselines.decoding.engine_settings import ServerSettings, engine_settings
        from ovmer.baselines.decoding.server_engine import ChatServer

        settings = engine_settings(machine.engine)
        settings.check(self.generation)
        self._batches, self._encoding = Batches(), Lock()
        if isinstance(settings, ServerSettings):
            self.refuse_adapters()
            part = self.checkpoint["model"]
            name = part.path or part.repo or part.package or ""
            key = "baseline.checkpoint.model.repo"
            self.engine = ChatServer(name, settings, self.generation, model_key=key)
            self._is_served = True
            return
        if settings.cache:
            self._llm_cache = Path(settings.cache).expanduser()
        self._loading = Loading(self.checkpoint, self.parts)
        self.engine = settings.start_text(
            self._folder, self._chat, self.generation, machine.device, machine.dtype, self._loading
        )

    # -- one clip --------------------------------------------------------------------------------

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        words = subtitle if (subtitle or "").strip() else None
        # A task's question contains the subtitle already.
        is_guess = words is None and self.prompt.with_subtitle != SLOT
        guess = (_GUESS,) if is_guess else ()
        if self._is_served:
            return Prepared(Encoded(self.prompt.about(words)), guess)
        asked, cut = self.ask(words, self._room, lambda text: len(self._chat.chat(text)))
        ids = self._chat.chat(asked)
        tokens = (len(ids) + self.generation.max_new_tokens) * self.generation.num_beams
        return Prepared(Encoded(ids), guess + cut, tokens=tokens)

    @cached_property
    def _room(self) -> int:
        """How many tokens the context leaves a prompt."""
        from ovmer.baselines.chat import context_of

        return context_of(self._folder) - self.generation.max_new_tokens

    def to_answer(self, generated: "Generated", item: Prepared) -> Answer:
        most = self.generation.max_new_tokens
        return without_thinking(generated, self.thinking, self.clean, most_tokens=most)


@register("packaged_llm")
@dataclass
class PackagedLlm(ChatLlm):
    """One whose weights an installed package ships: small enough for a dry run to take them."""

    miniature = Adapter.miniature
