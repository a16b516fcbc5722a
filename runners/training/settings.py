"""The settings of `ovmer train`: those of a sweep, and a recipe."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ovmer.adapters.affectgpt_prompts import FOR_CLIPS, QUESTIONS
from ovmer.baselines.errors import PrerequisiteError, near
from ovmer.runners.config import CONF, VERSION_BASE, Settings, as_typed, register, settings_of

SCHEDULES = ("authors", "constant", "linear", "cosine")
FUSIONS = ("attention", "mean", "qformer")
CHOICES = {
    "rate.schedule": SCHEDULES,
    "accumulation": ("sum", "mean"),
    "encoders": ("train", "eval"),
    "loudness": ("batch", "clip"),
    "draws": ("clip", "worker"),
    "broken": ("replace", "skip"),
    "features": ("live", "cached"),
    "precision": ("auto", "float32", "bfloat16", "float16"),
    "step": ("affectgpt", "port"),
    "fusion.video": FUSIONS,
    "fusion.audio": FUSIONS,
    "fusion.multi": ("attention", "qformer"),
    "export": ("", "swift", "llama_factory"),
    "template": FOR_CLIPS,
}
"""Settings below `train` that have a few values."""


@dataclass
class LearningRateSettings:
    """The learning rate. `authors` is the rule of AffectGPT's runner; the others are transformers',
    from `init` downwards after a warm-up from zero."""

    schedule: str = "constant"
    init: float = 1e-4
    min: float = 0.0
    warmup: float = 0.0
    """Rate at the start of the authors' warm-up; below 0 it is `init`."""
    warmup_steps: int = 0


@dataclass
class LoraSettings:
    rank: int = 16
    """0: no adapters."""
    alpha: float = 32.0
    dropout: float = 0.05
    targets: list[str] = field(default_factory=lambda: ["q_proj", "v_proj"])


@dataclass
class FusionSettings:
    """How vectors over time become one or a few (AffectGPT, Table 5)."""

    video: str = "attention"
    audio: str = "attention"
    multi: str = "attention"
    video_tokens: int = 1
    audio_tokens: int = 1
    multi_tokens: int = 1
    qformer_width: int = 768
    qformer_heads: int = 12
    qformer_ffn: int = 3072


@dataclass
class DescriptionSource:
    """Source of the description of each clip that a model learns to give."""

    file: str | None = None
    """A csv below the data set's root; null: the label table's name with track3 for track2."""
    key: str = "name"
    column: str = "reason"


@dataclass
class EvaluationSettings:
    """Sweeps over the checkpoints, each scored as any run is."""

    dataset: str | None = None
    """For `best on validation`: a name of conf/dataset, never one that is trained on."""
    tests: list[str] = field(default_factory=list)
    """Test sets, for the figures and for the paper's `best on the test set`."""
    sets: list[str] = field(default_factory=lambda: ["generation=greedy"])
    """Settings of these sweeps."""
    every: int = 0
    """Score a checkpoint for validation each time this many were saved; 0: all at the end."""


@dataclass
class Recipe:
    """Everything that the trained weights depend on."""

    name: str = "???"
    step: str = "port"
    """`affectgpt`, or `port`: any port with a plain language model."""
    steps: int = 1000
    """Updates of the weights."""
    epoch: int = 100
    """Iterations that are called an epoch: in the names of files and by the authors' schedule."""
    batch_size: int = 3
    """Clips on each device at once."""
    accumulate: int = 1
    """Iterations for one update."""
    accumulation: str = "mean"
    """How their gradients are combined; the authors `sum` them."""
    rate: LearningRateSettings = field(default_factory=LearningRateSettings)
    weight_decay: float = 0.0
    clip: float = 0.0
    """Largest norm of the gradients; 0: they are not clipped."""
    lora: LoraSettings = field(default_factory=LoraSettings)
    fusion: FusionSettings = field(default_factory=FusionSettings)
    connectors: list[str] = field(default_factory=list)
    """Modules of a port to be trained beside the adapters; AffectGPT's always are."""
    start: str | None = None
    """A checkpoint to start from; null: random connectors, adapters that change nothing."""
    template: str = "multiface_audio_face_text"
    frames: int = 8
    kinds: list[str] = field(default_factory=lambda: ["ovlabel"])
    """Of these one is drawn for each clip in each pass."""
    questions: dict[str, str] = field(default_factory=dict)
    """For a port: the question of each kind, with {subtitle} (`+train.questions.KIND=...`); none:
    the baseline's own."""
    max_length: int = 1024
    encoders: str = "eval"
    loudness: str = "clip"
    start_token: bool = False
    """Whether rows begin with <|im_start|>, which prompts at inference do not."""
    draws: str = "clip"
    broken: str = "skip"
    features: str = "live"
    mixture: dict[str, float] = field(default_factory=dict)
    """Data sets by name with the share of iterations of each, instead of `dataset`; on the command
    line `+train.mixture={NAME: SHARE, ...}`."""
    reasons: DescriptionSource = field(default_factory=DescriptionSource)
    precision: str = "auto"
    # What follows changes no weight.
    gradient_checkpointing: bool = False
    save_every: int = 0
    """Steps between checkpoints; 0: an epoch."""
    log_every: int = 10
    workers: int = 4
    report_to: list[str] = field(default_factory=lambda: ["tensorboard"])
    validation: EvaluationSettings = field(default_factory=EvaluationSettings)
    export: str = ""


_BESIDE = (
    "gradient_checkpointing save_every log_every workers report_to validation export"
).split()
"""Settings that change no weight, and so are no part of a run's identity."""


@dataclass
class TrainSettings(Settings):
    """`conf/train.yaml`."""

    train: Recipe = field(default_factory=Recipe)

    @property
    def identity(self) -> dict[str, Any]:
        """The settings below `train` that decide what becomes of the weights, as flat keys."""
        found = _flat({k: v for k, v in asdict(self.train).items() if k not in _BESIDE}, "train")
        rate = self.train.rate
        if rate.schedule == "constant" or (rate.schedule, rate.init) == ("authors", rate.min):
            del found["train.steps"]  # a longer run begins like a shorter one
        return found

    def check(self) -> None:
        """Raise PrerequisiteError for a value out of range."""
        recipe = self.train
        for key, choices in CHOICES.items():
            value: Any = recipe
            for part in key.split("."):
                value = getattr(value, part)
            if value not in choices:
                raise PrerequisiteError(f"train.{key} is {value!r}; {near(value, choices)}")
        for key in ("steps", "epoch", "batch_size", "accumulate", "max_length", "frames"):
            if getattr(recipe, key) < 1:
                raise PrerequisiteError(f"train.{key} is {getattr(recipe, key)}; give at least 1")
        for kind in recipe.kinds:
            if kind not in QUESTIONS:
                raise PrerequisiteError(f"train.kinds: {kind!r}; {near(kind, QUESTIONS)}")
        if not recipe.kinds:
            raise PrerequisiteError("train.kinds is empty; give one, e.g. train.kinds=[ovlabel]")
        if recipe.mixture and min(recipe.mixture.values()) <= 0:
            raise PrerequisiteError("train.mixture holds a share that is not above 0")
        if recipe.lora.rank < 0 or (recipe.lora.rank and not recipe.lora.targets):
            raise PrerequisiteError("train.lora.rank and train.lora.targets make no adapters")


def compose_train(overrides: Sequence[str]) -> TrainSettings:
    """The settings of a command line. With dry_run=true a short run on the sample by default.

    Raises PrerequisiteError for a value out of range; errors of Hydra and OmegaConf pass.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore

    register()
    ConfigStore.instance().store(name="train_schema", node=TrainSettings)
    first = [*(_DRY if "dry_run=true" in [each.lower() for each in overrides] else ())]
    if any(each.startswith("clips=") for each in overrides):
        first.append("dataset=sample")  # which they replace
    with initialize_config_dir(str(CONF), version_base=VERSION_BASE):
        given = {each.partition("=")[0] for each in overrides}
        chosen = [each for each in first if each.partition("=")[0] not in given]
        settings = settings_of(compose("train", as_typed([*chosen, *overrides])))
    assert isinstance(settings, TrainSettings)
    settings.check()
    return settings


_DRY = (
    "dataset=sample",
    "train.steps=12",
    "train.epoch=4",
    "train.rate.warmup_steps=4",
    "train.log_every=1",
    "train.workers=0",
    "train.fusion.qformer_width=32",
    "train.fusion.qformer_heads=4",
    "train.fusion.qformer_ffn=64",
)


def _flat(values: dict[str, Any], start: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{start}.{key}"
        found |= _flat(value, name) if isinstance(value, dict) and value else {name: value}
    return found
