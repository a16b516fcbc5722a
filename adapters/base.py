"""The contract between a sweep and a multimodal LLM.

An adapter is one class with one method, `describe(video, audio, subtitle) -> str`. One that wants
speed writes `prepare` (CPU, thread-safe) and `generate` (device, batched) instead and gets
`describe` for free; the runner then decodes the next clips while the current batch is generated.
`encode`, if defined, runs between the two and overlaps with both.

Settings are the fields of the class when it is a dataclass: the keys of `conf/baseline/NAME.yaml`
are checked against their names and types before anything is built.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from ovmer.baselines.errors import ClipError, MissingModality, PrerequisiteError

VIDEO, AUDIO, SUBTITLE = "video", "audio", "subtitle"
MEDIA = frozenset({VIDEO, AUDIO})

Feeding = Literal["clip", "batch", "stream"]
"""Clips are put to `generate` one by one, to `generate` in batches, or to `stream` all together."""


@dataclass
class Prepared:
    """One clip, decoded and tokenised: what `prepare` hands to `generate`.

    `seed`, `truth`, `clues` and `answers` are filled in by the runner between the two calls.
    """

    inputs: Any
    notes: tuple[str, ...] = ()
    """Notes for the clip's record, e.g. that the subtitle was cut; one sentence each."""
    seed: int = 0
    """Start of this clip's random stream: a function of the run's seed and the clip's name alone,
    so that neither batch size, order, workers nor a resume changes the words."""
    truth: tuple[str, ...] = ()
    """The true labels; empty unless the adapter declares `sees_truth`."""
    clues: tuple[str | None, ...] = ()
    """Answers of the runs named by `Adapter.sources`; None for a run without an answer."""
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Each part of the task's answer (one without a name where it is one label) and the labels
    that it may be; empty unless the adapter declares `chooses`."""
    tokens: int = 0
    """Tokens of the prompt and of the longest answer, which batches are sized by; 0: not known."""


@dataclass(frozen=True)
class Answer:
    """A model's answer for one clip. A plain string will do if nothing else is known."""

    text: str
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    notes: tuple[str, ...] = ()
    thinking: str = ""
    """A reasoning model's text before the answer (see `thinking.split_thinking`); recorded
    beside the text and not scored."""


@dataclass(frozen=True)
class Machine:
    """Device, data type, engine and weights folder of a model.

    Of this only `dtype` and the engine are part of a run's identity.
    """

    device: str = "auto"
    """A torch device, or `auto`: the first GPU, else the CPU."""
    dtype: str = "auto"
    """A torch dtype, or `auto`: the model's own on a GPU, float32 on the CPU. The runner passes
    `auto` on only where the baseline's yaml has no `dtype`."""
    engine: Mapping[str, Any] = field(default_factory=lambda: {"name": "transformers"})
    """The decoding engine: the keys of a file of `conf/engine/`, `name` among them."""
    weights: str | None = None
    """A folder with checkpoints as OWNER/NAME; None: the hub and its cache."""
    baseline: str = "BASELINE"
    """The name that `ovmer fetch` takes, for messages."""


class Adapter:
    """Base class of every baseline.

    Subclasses state which inputs they use in `modalities` and are given only those; the others
    arrive as None. A clip that lacks all the media a model uses is recorded as
    `missing_modality` without asking it; where only some are absent the adapter decides.
    """

    modalities: ClassVar[frozenset[str]] = frozenset({VIDEO, AUDIO, SUBTITLE})
    answers_with_labels: ClassVar[bool] = False
    """True where the text names labels and describes nothing: a list, or with
    `labels_in_sentence` a sentence."""
    labels_in_sentence: ClassVar[bool] = False
    """True if the labels are part of a sentence (`His emotional state is happy, sad.`), which the
    extractor still has to read; a list is taken as it is."""
    chooses: ClassVar[bool] = False
    """True where a task is answered by one of its labels (`Prepared.answers`), without a look at
    the question."""
    sees_truth: ClassVar[bool] = False
    """True only for the ground-truth heuristic."""
    beside_identity: ClassVar[frozenset[str]] = frozenset()
    """Settings that cannot change a word, such as time limits: no part of a run's identity."""
    named_files: ClassVar[frozenset[str]] = frozenset()
    """Settings that name a file of code: its content, not its path, is part of the identity."""
    runs_elsewhere: ClassVar[bool] = False
    """True where the model runs in another process or on a server, which chooses its data type."""

    defines: ClassVar[frozenset[str]] = frozenset()
    """The methods of this contract that a subclass writes, itself or by its bases. Derived, as is
    the next: whoever asks what an adapter can do asks these."""
    describe_takes_seed: ClassVar[bool] = False
    """Whether `describe` has a parameter `seed`; it then gets the clip's (`Prepared.seed`)."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = {name for name, method in vars(Adapter).items() if inspect.isfunction(method)}
        cls.defines = frozenset(n for n in own if getattr(cls, n) is not getattr(Adapter, n))
        cls.describe_takes_seed = "seed" in inspect.signature(cls.describe).parameters

    # -- what an adapter defines: describe, or prepare and generate ------------------------------

    def describe(self, video: Path | None, audio: Path | None, subtitle: str | None) -> str:
        """Describe what one clip tells of a person's emotion.

        `video` is a video file or an array of face crops (.npy, frames x height x width x 3);
        `audio` is a sound file, or a video file for its sound track. An empty subtitle is
        a clip in which nothing is said; None means that the subtitle is not to be used. A model
        that draws random numbers may add a parameter `seed: int = 0`: the clip's.

        Raises ClipError where this clip cannot be described.
        """
        item = self.encode([self.prepare(video, audio, subtitle)])[0]
        answer = item if isinstance(item, ClipError) else self.generate([item])[0]
        if isinstance(answer, ClipError):
            raise answer
        return answer if isinstance(answer, str) else answer.text

    def load(self, machine: Machine) -> None:
        """Load the weights onto `machine`; called once, before the first `generate`.

        Raises PrerequisiteError if something is missing that the user can provide.
        """

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        """Decode, resize and tokenise one clip on the CPU. Called from several threads at once.

        Raises ClipError where the clip cannot be read.
        """
        return Prepared((video, audio, subtitle))

    def encode(self, batch: list[Prepared]) -> Sequence[Prepared | ClipError]:
        """Bring some clips onto the device and through the encoders, in their order.

        Called in one thread while `generate` runs in another. May be left out: `generate` is then
        given what `prepare` made.
        """
        return batch

    def generate(self, batch: list[Prepared]) -> Sequence[str | Answer | ClipError]:
        """Answer a batch, one answer per item and in its order.

        A ClipError in the list marks a clip that failed alone.
        """
        if "describe" not in self.defines:
            raise TypeError(
                f"{type(self).__name__} defines neither describe() nor prepare() and generate()"
            )
        answers: list[str | Answer | ClipError] = []
        for item in batch:
            try:
                seed: dict[str, Any] = {"seed": item.seed} if self.describe_takes_seed else {}
                answers.append(self.describe(*item.inputs, **seed))
            except ClipError as error:
                answers.append(error)
        return answers

    def close(self) -> None:
        """Free what `load` took."""

    # -- what it may define besides --------------------------------------------------------------

    def asking(self, question: str) -> Self:
        """A shallow copy that asks a task's `question`; model and tokenizer are shared.

        `prepare` of the copy is called as the original's would be, from several threads; encoding
        and generation stay with the original. Raises PrerequisiteError unless a subclass says how.
        """
        raise PrerequisiteError(
            f"{type(self).__name__} puts no question, so a task cannot ask one of it"
        )

    def miniature(self, folder: Path, seed: int = 0) -> Self:
        """Write a random miniature of the checkpoint under `folder`, in its published layout.

        Returns this adapter pointed at it. Adapters without weights return themselves.
        """
        return self

    @property
    def load_notes(self) -> tuple[str, ...]:
        """Notes on the loaded weights for run.json; one sentence each."""
        return ()

    @property
    def waits_for(self) -> str:
        """A line for the user where `load` takes long: what it waits for, and for how long."""
        return ""

    def sources(self) -> Sequence[Path]:
        """Run folders of other baselines, whose descriptions this one gets as clues."""
        return ()

    def on(self, machine: Machine) -> "Adapter":
        """The adapter that runs this baseline on `machine`: itself, or one that asks a server."""
        return self

    # -- for engines that hold many clips at once ------------------------------------------------

    @property
    def feeding(self) -> Feeding:
        """How the runner hands clips over."""
        return "batch" if "generate" in self.defines else "clip"

    @property
    def batch_tokens(self) -> int:
        """Tokens (see `Prepared.tokens`) of a batch that fits the device once the model is loaded;
        0: any number. The setting `batch_tokens` may ask for fewer."""
        return 0

    def limit_batches(self, clips: int, tokens: int) -> None:
        """Limit the clips in flight, and their tokens (0: any number); called before `stream`.

        Ignored by engines that size their batches themselves.
        """

    def stream(self, items: Iterable[Prepared]) -> Iterator[tuple[int, str | Answer | ClipError]]:
        """Answer clips in any order: (index in `items`, answer), each as soon as it is known.

        For engines that keep many clips in flight by themselves; where `feeding` is "stream" the
        runner calls this once for the whole run. Drawing an item waits until it is prepared, so
        draw no more than are to be in flight. Raises PrerequisiteError where no further clip can
        be answered; answers yielded before are kept.
        """
        raise NotImplementedError


def require_video(video: Path | None) -> Path:
    """The path of a clip's picture, or MissingModality where it has none."""
    if video is None:
        raise MissingModality("the clip has no video, which this model needs")
    return video


def require_audio(audio: Path | None) -> Path:
    """The path of a clip's sound, or MissingModality where it has none."""
    if audio is None:
        raise MissingModality("the clip has no sound, which this model needs")
    return audio
