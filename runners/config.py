"""The top level of the configuration.

Hydra checks that every key of the command line exists, and the types of the keys named here; what
the groups hold (`baseline`, `dataset`, ...) is checked by the stage that reads it. explain.py words
the errors. Only `register` imports Hydra: a job that is composed does not need it.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import DictConfig, OmegaConf

from ovmer.adapters import registry
from ovmer.baselines.errors import PrerequisiteError, near, one_of
from ovmer.runners.secrets import refuse_secrets
from ovmer.runners.table_files import explained
from ovmer.runners.tasks.task import applied
from ovmer.runners.typed import from_json

CONF = Path(__file__).parents[1] / "conf"
"""As a path, since a folder `conf` in the current folder would hide the package of that name."""
CONFIG_NAME = "config"
VERSION_BASE = "1.3"

SUBTITLE = ("prompt", "merge", "none")
INPUTS = (
    "all",
    "video",
    "audio",
    "subtitle",
    "no_subtitle",
    "swapped_audio",
    "black_video",
    "silence",
)
"""Values of `inputs=`, see describing/inputs.py."""
ON_ERROR = ("record", "raise")

NEEDS = {"gpus": 1, "cpus": 8, "mem_gb": 64, "minutes": 720}
"""Default resources of a job on a cluster (`needs` in a baseline's yaml): enough for
the published models, which have 7B parameters and take 24 GB of a GPU."""

_NUMBER = r"[+-]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:e[+-]?\d+)?|[+-]?inf|nan"
_ITEM = re.compile(rf"(?<=[=\[,])(\s*)({_NUMBER})(\s*)(?=[,\]]|$)", re.IGNORECASE)
"""A number that is the whole of a value, or of an item of a list."""


@dataclass
class MachineSettings:
    """The fields of adapters.Machine, which is frozen and thus no schema for Hydra."""

    device: str = "auto"
    dtype: str = "auto"


@dataclass
class ReadingSettings:
    """The fields of adapters/media/settings.py, which are frozen and thus no schema for Hydra."""

    reader: str = "auto"
    seconds: float = 300.0


@dataclass
class PriceSettings:
    """Prices of a million tokens; None if unknown."""

    prompt: float | None = None
    answer: float | None = None
    currency: str = "USD"


@dataclass
class ColumnSettings:
    """Columns of the table `clips=`, where they have other names than the defaults."""

    name: str | None = None
    video: str | None = None
    audio: str | None = None
    face: str | None = None
    subtitle: str | None = None
    labels: str | None = None
    question: str | None = None
    choices: str | None = None
    reason: str | None = None


@dataclass
class Settings:
    """`conf/config.yaml`; a group arrives as the dict that its yaml file holds."""

    baseline: dict[str, Any] = field(default_factory=lambda: {"needs": dict(NEEDS)})
    dataset: dict[str, Any] = field(default_factory=dict)
    extractor: dict[str, Any] = field(default_factory=dict)
    metric: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    asr: dict[str, Any] = field(default_factory=dict)
    faces: dict[str, Any] = field(default_factory=dict)
    launcher: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    clips: str | None = None
    columns: ColumnSettings = field(default_factory=ColumnSettings)
    data_root: str = "dataset"
    weights: str | None = None
    limit: int | None = None
    question: str | None = None
    choices: list[str] = field(default_factory=list)
    generation: str = "own"
    subtitle: str = "prompt"
    inputs: str = "all"
    dry_run: bool = False
    estimate: bool = False
    seed: int = 0
    variant: str = ""
    outputs: str = "outputs"
    on_error: str = "record"
    redo: Any = False
    embeddings: bool = False
    batch_size: int = 64
    batch_tokens: int = 0
    workers: int = 0
    machine: MachineSettings = field(default_factory=MachineSettings)
    media: ReadingSettings = field(default_factory=ReadingSettings)
    price: PriceSettings = field(default_factory=PriceSettings)


def register() -> None:
    """Tell Hydra the schema, and the adapters of other packages: `baseline=NAME` finds them.

    Of a plug-in only its name and its yaml file are read; it is imported when it is used. A file of
    that name in the user's own folder adds to the node, which is just what is wanted, so Hydra's
    warning of it is not shown.
    """
    from hydra.core.config_store import ConfigStore

    merged = r"\s*'(baseline|hydra/launcher)/.*' is validated against ConfigStore schema"
    warnings.filterwarnings("ignore", merged, UserWarning)
    OmegaConf.register_new_resolver("settings_help", settings_help, replace=True)
    OmegaConf.register_new_resolver("defaults_help", defaults_help, replace=True)
    store = ConfigStore.instance()
    store.store(name="schema", node=Settings)
    for adapter in registry.names():
        if adapter.name not in registry.BUILT_IN:
            node: Any = OmegaConf.create({"name": adapter.name, "adapter": adapter.name})
            if file := registry.settings_file(adapter.name):
                node = OmegaConf.merge(node, OmegaConf.load(file))
            OmegaConf.set_struct(node, False)  # its fields are known once it is imported
            store.store(group="baseline", name=adapter.name, node=node)


def search_path(folder: Path) -> str:
    """The override that does what Hydra's own --config-dir does.

    Raises PrerequisiteError where there is no such folder, and for a yaml file in it that is not
    UTF-8: Hydra would show only where in some file it stopped.
    """
    if not folder.is_dir():
        raise PrerequisiteError(f"--config-dir: there is no folder {folder}")
    for path in folder.rglob("*.yaml"):
        with explained(path):
            path.read_text(encoding="utf-8")
    quoted = str(folder.absolute()).replace("'", r"\'")
    return f"hydra.searchpath=['file://{quoted}']"


def settings_help() -> str:
    """The top level of the configuration with its comments, for `ovmer sweep --help`."""
    text = (CONF / f"{CONFIG_NAME}.yaml").read_text(encoding="utf-8")
    return text[text.index("\nclips:") :].strip().replace("$", "$$")


def defaults_help() -> str:
    """The choice of each group where none is given, for `ovmer sweep --help`."""
    import yaml

    text = (CONF / f"{CONFIG_NAME}.yaml").read_text(encoding="utf-8")
    groups = [each for each in yaml.safe_load(text)["defaults"] if isinstance(each, dict)]
    chosen = {group: name for each in groups for group, name in each.items() if " " not in group}
    return " ".join(f"{group}={name}" for group, name in chosen.items() if name)


@cache
def shipped_baselines() -> Mapping[str, dict[str, Any]]:
    """The files of conf/baseline/ by name, each over the one that it is a variant of."""
    return _baselines(CONF)


def own_baselines(folder: Path) -> Mapping[str, dict[str, Any]]:
    """Those of a folder of the user's own; a name of ours is left out, as Hydra takes ours.

    Raises PrerequisiteError for a file that is no baseline's, and for a variant of a baseline that
    is in neither folder.
    """
    found = _baselines(folder, CONF)
    own = {name: each for name, each in found.items() if name not in shipped_baselines()}
    for name, each in own.items():
        if "adapter" not in each:
            raise PrerequisiteError(
                f"{folder / 'baseline' / name}.yaml names no adapter; add adapter: NAME, or a "
                "baseline that it is a variant of to its defaults"
            )
    return own


def _baselines(*folders: Path) -> dict[str, dict[str, Any]]:
    """The files of the folders' baseline/ by name; of two of one name the last folder's."""
    import yaml

    files = {path.stem: path for each in folders for path in sorted(each.glob("baseline/*.yaml"))}

    def read(name: str) -> dict[str, Any]:
        if name not in files:
            raise PrerequisiteError(f"defaults: there is no baseline {name}; {near(name, files)}")
        try:
            own = yaml.safe_load(files[name].read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise PrerequisiteError(f"{files[name]} is no YAML: {reason}") from error
        if not isinstance(own, dict):
            raise PrerequisiteError(f"{files[name]} holds no settings; give key: value")
        merged: dict[str, Any] = {}
        for parent in own.pop("defaults", []):
            # A dict among them chooses in another group: `served` an engine.
            if isinstance(parent, str) and parent != "_self_":
                merged = _over(merged, read(parent))
        return _over(merged, own)

    return {name: read(name) for name in files}


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`, as Hydra merges them: dicts key by key."""
    both = {key: value for key, value in above.items() if isinstance(value, dict)}
    merged = {key: _over(below[key], both[key]) for key in both if isinstance(below.get(key), dict)}
    return {**below, **above, **merged}


@cache
def shipped_extractor(name: str) -> Mapping[str, Any]:
    """The file of conf/extractor/ as it ships, over those that it is made from; empty for an
    extractor of the user's own."""
    import yaml

    file = CONF / "extractor" / f"{name}.yaml"
    found = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for parent in found.pop("defaults", ()):
        if isinstance(parent, str) and parent != "_self_":
            found = _over(shipped_extractor(parent), found)
    return found


def settings_from_overrides(overrides: Sequence[str]) -> Settings:
    """The settings under overrides in Hydra's syntax, where Hydra does not run the command.

    Raises PrerequisiteError for a value out of range; errors of Hydra and OmegaConf pass (see
    `explain`).
    """
    from hydra import compose, initialize_config_dir

    register()
    with initialize_config_dir(str(CONF), version_base=VERSION_BASE):
        return settings_of(compose(CONFIG_NAME, as_typed(overrides)))


def as_typed(overrides: Sequence[str]) -> list[str]:
    """The overrides in Hydra's syntax, with quotes around numbers where the setting is text: Hydra
    takes a clip called 1e5 for 100000.0."""
    return [_quoted(each) for each in overrides]


def _quoted(override: str) -> str:
    key = override.partition("=")[0].lstrip("+")
    if key not in _text_keys() or "'" in override or '"' in override:
        return override
    return _ITEM.sub(r"\1'\2'\3", override)


@cache
def _text_keys() -> frozenset[str]:
    """The settings that are text or lists of text, and those that name clips."""
    found = {"dataset.clips", "redo"}
    for schema, above in ((Settings, ""), (ColumnSettings, "columns.")):
        hints = get_type_hints(schema)
        found |= {
            above + each.name
            for each in fields(schema)
            if hints[each.name] in (str, str | None, list[str])
        }
    return frozenset(found)


def settings_of(config: DictConfig) -> Settings:
    """The composed configuration as plain, checked values.

    Raises PrerequisiteError for a value out of range; OmegaConf's errors pass (see `explain`).
    """
    known = [each.name for each in fields(OmegaConf.get_type(config) or Settings)]
    for key in map(str, config):
        if key not in known:
            raise PrerequisiteError(f"there is no key {key}; {near(key, known)}")
    settings = OmegaConf.to_object(config)
    assert isinstance(settings, Settings)
    settings.metric, settings.extractor = applied(
        settings.task, settings.metric, settings.extractor
    )
    refuse_secrets(asdict(settings))
    one_of("subtitle", settings.subtitle, SUBTITLE)
    one_of("inputs", settings.inputs, INPUTS)
    one_of("on_error", settings.on_error, ON_ERROR)
    for key, least in (("batch_size", 1), ("batch_tokens", 0), ("workers", 0)):
        if getattr(settings, key) < least:
            raise PrerequisiteError(f"{key} is {getattr(settings, key)}; give at least {least}")
    return settings


_PATHS = (
    ("dataset", "root"),
    ("metric", "wheel_root"),
    ("metric", "replies"),
    ("baseline", "runs"),
)


def settings_as_json(settings: Settings) -> dict[str, Any]:
    """The settings as `run.json` holds them: paths made absolute, as it may be read elsewhere, and
    without the wish of one session to do clips again."""
    values = asdict(settings) | {"redo": False}
    for group, key in _PATHS:
        if key in values[group]:
            value = values[group][key]
            many = isinstance(value, list)
            values[group][key] = [_absolute(each) for each in value] if many else _absolute(value)
    return values


def _absolute(value: Any) -> Any:
    if isinstance(value, str) and (path := Path(value).expanduser()).exists():
        return str(path.resolve())
    return value


def settings_from_json(values: Mapping[str, Any], folder: Path) -> Settings:
    """The settings that `run.json` holds; PrerequisiteError where they are another version's."""
    try:
        return from_json(Settings, values)
    except ValueError as error:
        raise PrerequisiteError(
            f"{folder} was made by another version of this project ({error}); run its sweep again"
        ) from error
