"""`conf/extractor/NAME.yaml` -> extractors: checked keys and values, nothing loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ovmer.baselines.decoding.answers import TextEngine
from ovmer.baselines.decoding.chat_models import ChatModelSource
from ovmer.baselines.decoding.engine_settings import ServerSettings, engine_settings
from ovmer.baselines.decoding.language_model import LanguageModel, LocalTextEngine
from ovmer.baselines.decoding.server_engine import ChatServer
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import PrerequisiteError, near
from ovmer.runners.explain import to_dataclass
from ovmer.runners.extraction.base import Extractor
from ovmer.runners.extraction.judge import JudgeEngine, JudgeExtractor, JudgeSettings
from ovmer.runners.extraction.language_model import LanguageModelExtractor, QuestionChain
from ovmer.runners.extraction.lexicon import LexiconExtractor
from ovmer.runners.extraction.reply import ReplyExtractor
from ovmer.runners.scoring.parsing import PARSERS

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
    engine: Any = None
    """The keys of `conf/engine/NAME.yaml`."""
    sampling: str = "greedy"
    presets: dict[str, GenerationSettings] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0])
    translate: str = "none"
    merge: str = "merge"
    labels: str = "labels"
    target: str = "labels"
    parser: str = "strict"
    device: str = "auto"
    dtype: str = "auto"
    cache: str = "outputs/.cache"
    dry_run: bool = False
    needs: dict[str, int] = field(default_factory=dict)
    """Least resources asked of a cluster, unless a server answers (sweeping/submit.py)."""

    def check(self) -> None:
        """Raise PrerequisiteError for a value that is none of the choices."""
        for key, value, choices in (
            ("sampling", self.sampling, self.presets),
            ("translate", self.translate, _TRANSLATE),
            ("merge", self.merge, _MERGE),
            ("labels", self.labels, _LABELS),
            ("target", self.target, _TARGETS),
            ("parser", self.parser, PARSERS),
        ):
            if value not in choices:
                raise PrerequisiteError(f"extractor.{key} is {value!r}; {near(value, choices)}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise PrerequisiteError(f"extractor.seeds is {self.seeds}; give each seed once")
        if len(self.seeds) > 1 and not self.presets[self.sampling].do_sample:
            raise PrerequisiteError(
                f"extractor.seeds has {len(self.seeds)} seeds but sampling={self.sampling} draws "
                "nothing, so all would agree; add extractor.sampling=paper"
            )


def make_extractors(settings: Mapping[str, Any], merge: bool = False) -> list[Extractor]:
    """The extractors of a configuration: one for each of `extractor.seeds`, else one.

    `merge` says that subtitles are to be merged into the descriptions. Raises PrerequisiteError
    for a key or value that is wrong, and where the extractor cannot merge.
    """
    kind = settings.get("kind")
    if kind == "reply":
        if merge:
            raise PrerequisiteError(
                "subtitle=merge is for descriptions, but this task's metric reads the reply; "
                "say subtitle=prompt or subtitle=none"
            )
        return [ReplyExtractor()]
    if kind == "lexicon":
        if merge:
            raise PrerequisiteError(
                "subtitle=merge needs a language model, which extractor=lexicon has not; "
                "add extractor=qwen25, or say subtitle=prompt or subtitle=none"
            )
        lexicon = to_dataclass(LexiconSettings, settings, "extractor")
        if lexicon.target != "labels":
            raise PrerequisiteError(
                f"this data set is scored by its {lexicon.target}, which extractor=lexicon cannot "
                "tell; add extractor=qwen25"
            )
        return [LexiconExtractor(lexicon.sentences)]
    if kind == "judge":
        return _judges(settings)
    if kind != "language_model":
        raise PrerequisiteError(
            f"extractor.kind is {kind!r}; it is lexicon, language_model or judge"
        )
    checked = to_dataclass(LanguageModelSettings, settings, "extractor")
    checked.check()
    model = _language_model(checked)
    chain = QuestionChain(
        checked.translate,
        checked.merge if merge else None,
        checked.labels,
        checked.target,
        checked.parser,
    )
    return [LanguageModelExtractor(checked.name, model, chain, seed) for seed in checked.seeds]


def _judges(settings: Mapping[str, Any]) -> list[Extractor]:
    """The judge of `conf/extractor/judge.yaml`, with the task's `judge` under that key; one a
    seed."""
    own = {key: value for key, value in settings.items() if key != "judge"}
    checked = to_dataclass(LanguageModelSettings, own, "extractor")
    checked.check()
    judge = settings.get("judge")
    if not judge:
        raise PrerequisiteError("extractor=judge needs a task with a judge, such as mme_emotion")
    model = _language_model(checked)
    model.engine = JudgeEngine(model.engine, isinstance(model.engine, ChatServer))
    asked = to_dataclass(JudgeSettings, judge, "task.judge")
    return [JudgeExtractor(checked.name, model, asked, seed) for seed in checked.seeds]


def make_language_model(settings: Mapping[str, Any]) -> LanguageModel:
    """The language model of `conf/extractor/NAME.yaml`, to be asked other things than labels.

    Raises PrerequisiteError for a key or value that is wrong, and for an extractor without one.
    """
    if settings.get("kind") != "language_model":
        raise PrerequisiteError(
            f"extractor={settings.get('name')} has no language model; add extractor=qwen25"
        )
    checked = to_dataclass(LanguageModelSettings, settings, "extractor")
    checked.check()
    return _language_model(checked)


def _language_model(settings: LanguageModelSettings) -> LanguageModel:
    """The model behind its engine and the cache; a dry run replaces a hub model by a miniature.

    (A folder is used as it is, and a server chooses its own weights.)
    """
    generation, cache = settings.presets[settings.sampling], Path(settings.cache)
    chosen = engine_settings(settings.engine, at="extractor.engine")
    engine: TextEngine
    if isinstance(chosen, ServerSettings):
        name, _, revision = settings.model.partition("@")
        engine = ChatServer(
            name, chosen, generation, model_key="extractor.model", revision=revision
        )
        return LanguageModel(engine, generation, cache)
    source = ChatModelSource.named(settings.model)
    if settings.dry_run and source.folder is None:
        source = ChatModelSource.miniature(cache / "miniature-qwen2")
        shorter = min(generation.max_new_tokens, _MINIATURE_TOKENS)
        generation = replace(generation, max_new_tokens=shorter)
    engine = LocalTextEngine(
        source, chosen, generation, device=settings.device, dtype=settings.dtype
    )
    return LanguageModel(engine, generation, cache)
