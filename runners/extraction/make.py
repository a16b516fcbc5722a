"""`conf/extractor/NAME.yaml` -> extractors: checked keys and values, nothing loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ovmer.adapters.registry import near
from ovmer.baselines.decoding.server_settings import ServerSettings
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.extraction.ask import LanguageModel
from ovmer.runners.extraction.base import Extractor
from ovmer.runners.extraction.engines.base import Engine, Sampling
from ovmer.runners.extraction.engines.local import TransformersCompletion
from ovmer.runners.extraction.engines.server import ServerCompletion
from ovmer.runners.extraction.engines.vllm import VllmCompletion
from ovmer.runners.extraction.engines.where import Model
from ovmer.runners.extraction.language_model import Chain, LanguageModelExtractor
from ovmer.runners.extraction.lexicon import LexiconExtractor
from ovmer.runners.scoring.parsing import PARSERS

_ENGINES = ("transformers", "vllm", "server")
_TRANSLATE = ("none", "english", "chinese")
_LABELS = ("labels", "labels_mer2024", "labels_chinese")
_MERGE = ("merge", "merge_chinese")
_TARGETS = ("labels", "basic_emotion", "sentiment")
_MINIATURE_TOKENS = 32
"""Of an answer at most, in a dry run."""


@dataclass
class LexiconSettings:
    """`conf/extractor/lexicon.yaml`."""

    kind: str = "lexicon"
    name: str = "lexicon"
    sentences: int = 4
    target: str = "labels"


@dataclass
class LanguageModelSettings:
    """`conf/extractor/qwen25.yaml`, where the keys are explained."""

    kind: str = "language_model"
    name: str = ""
    model: str = ""
    engine: str = "transformers"
    sampling: str = "greedy"
    presets: dict[str, Sampling] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0])
    translate: str = "none"
    merge: str = "merge"
    labels: str = "labels"
    target: str = "labels"
    parser: str = "strict"
    batch_size: int = 32
    device: str = "auto"
    dtype: str = "auto"
    cache: str = "outputs/.cache"
    dry_run: bool = False
    vllm: dict[str, Any] = field(default_factory=dict)
    server: ServerSettings = field(default_factory=ServerSettings)

    def check(self) -> None:
        """Raise PrerequisiteError for a value that is none of the choices."""
        for key, value, choices in (
            ("engine", self.engine, _ENGINES),
            ("sampling", self.sampling, self.presets),
            ("translate", self.translate, _TRANSLATE),
            ("merge", self.merge, _MERGE),
            ("labels", self.labels, _LABELS),
            ("target", self.target, _TARGETS),
            ("parser", self.parser, PARSERS),
        ):
            if value not in choices:
                raise PrerequisiteError(f"extractor.{key} is {value!r}; {near(value, choices)}")
        self.server.check("extractor.server")
        if self.batch_size < 1:
            raise PrerequisiteError(f"extractor.batch_size is {self.batch_size}; give at least 1")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise PrerequisiteError(f"extractor.seeds is {self.seeds}; give each seed once")
        if len(self.seeds) > 1 and self.presets[self.sampling].is_greedy:
            raise PrerequisiteError(
                f"extractor.seeds has {len(self.seeds)} seeds but sampling={self.sampling} draws "
                "nothing, so all would agree; add extractor.sampling=paper"
            )


S = TypeVar("S", LexiconSettings, LanguageModelSettings)


def make_extractors(settings: Mapping[str, Any], merge: bool = False) -> list[Extractor]:
    """The extractors of a configuration: one for each of `extractor.seeds`, else one.

    `merge` says that subtitles are to be merged into the descriptions. Raises PrerequisiteError
    for a key or value that is wrong, and where the extractor cannot merge.
    """
    kind = settings.get("kind")
    if kind == "lexicon":
        if merge:
            raise PrerequisiteError(
                "subtitle=merge needs a language model, which extractor=lexicon has not; "
                "add extractor=qwen25, or say subtitle=prompt or subtitle=none"
            )
        lexicon = _checked(LexiconSettings, settings)
        if lexicon.target != "labels":
            raise PrerequisiteError(
                f"this data set is scored by its {lexicon.target}, which extractor=lexicon cannot "
                "tell; add extractor=qwen25"
            )
        return [LexiconExtractor(lexicon.sentences)]
    if kind != "language_model":
        raise PrerequisiteError(f"extractor.kind is {kind!r}; it is lexicon or language_model")
    checked = _checked(LanguageModelSettings, settings)
    checked.check()
    model = _language_model(checked)
    chain = Chain(
        checked.translate,
        checked.merge if merge else None,
        checked.labels,
        checked.target,
        checked.parser,
    )
    return [LanguageModelExtractor(checked.name, model, chain, seed) for seed in checked.seeds]


def make_language_model(settings: Mapping[str, Any]) -> LanguageModel:
    """The language model of `conf/extractor/NAME.yaml`, to be asked other things than labels.

    Raises PrerequisiteError for a key or value that is wrong, and for an extractor without one.
    """
    if settings.get("kind") != "language_model":
        raise PrerequisiteError(
            f"extractor={settings.get('name')} has no language model; add extractor=qwen25"
        )
    checked = _checked(LanguageModelSettings, settings)
    checked.check()
    return _language_model(checked)


def _language_model(settings: LanguageModelSettings) -> LanguageModel:
    """The model behind its engine and the cache; a dry run puts a miniature in a hub model's place.

    (A folder is used as it is, and what stands behind a server is the server's affair.)
    """
    sampling, cache = settings.presets[settings.sampling], Path(settings.cache)
    engine: Engine
    if settings.engine == "server":
        engine = ServerCompletion(settings.model, sampling, settings.server)
        return LanguageModel(engine, sampling, cache)
    model = Model.named(settings.model)
    if settings.dry_run and model.folder is None:
        model = Model.miniature(cache / "miniature-qwen2")
        sampling = replace(sampling, max_tokens=min(sampling.max_tokens, _MINIATURE_TOKENS))
    if settings.engine == "vllm":
        engine = VllmCompletion(model, sampling, dtype=settings.dtype, options=settings.vllm)
    else:
        engine = TransformersCompletion(
            model,
            sampling,
            device=settings.device,
            dtype=settings.dtype,
            batch_size=settings.batch_size,
        )
    return LanguageModel(engine, sampling, cache)


def _checked(schema: type[S], settings: Mapping[str, Any]) -> S:
    try:
        found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), dict(settings)))
    except OmegaConfBaseException as error:
        from ovmer.runners.explain import explain  # brings Hydra with it

        raise PrerequisiteError(explain(error, "extractor")) from error
    assert isinstance(found, schema)
    return found
