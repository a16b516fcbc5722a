"""One job of a sweep: a baseline on a data set, under given settings.

Everything here is known before anything runs: which adapter with which fields, what makes its
descriptions the same ones (`identity`), and the name of its run folder. Nothing heavy is imported.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ovmer.adapters import plugin, registry
from ovmer.adapters.base import SUBTITLE, VIDEO, Adapter, Machine
from ovmer.adapters.media.settings import MediaSettings
from ovmer.baselines.checkpoint import CheckpointPart, describe_part
from ovmer.baselines.decoding.engine_base import words_depend_on
from ovmer.baselines.errors import PrerequisiteError, first_line, near, where
from ovmer.baselines.gpu import OWN, resolve_dtype
from ovmer.runners.config import Settings
from ovmer.runners.content import code_hash, code_of_class
from ovmer.runners.data.own import with_own_clips
from ovmer.runners.explain import explain
from ovmer.runners.file_names import file_word, shortened
from ovmer.runners.naming import extraction_word, field_words, switch_words, task_words
from ovmer.runners.parts import identities
from ovmer.runners.tasks.task import Task, make_task

NOT_FIELDS = frozenset(
    "name title adapter status generation needs dtype protocol variant_of trained_on".split()
)
"""Keys of conf/baseline/*.yaml that are not fields of the adapter. `generation`: see `_fields`;
`needs`: what a cluster is asked for (sweeping/submit.py); `dtype`: that of the authors' run, see
`Job.dtype`; `protocol`: settings beside the baseline that its rows in print take; `variant_of`:
the baseline of which this is another release (papers/); `trained_on`: data sets that it was
trained on here (trained_on.py)."""
_PRESETS = ("paper", "card", "greedy")
OWN_PRESET = "own"
"""As `generation`: `paper` or `card`, whichever the baseline has, else `greedy`."""


@dataclass(frozen=True)
class Job:
    """Settings, and the overrides of the command line that led to them."""

    settings: Settings
    overrides: tuple[str, ...] = ()
    at: Path | None = None
    """The run folder, where it is known rather than named after the settings."""
    on_gpu: bool | None = None
    """Whether the machine that it will run on has a GPU; None asks this one."""

    def __post_init__(self) -> None:
        settings = self.settings
        settings.dataset = with_own_clips(
            settings.dataset, settings.clips, asdict(settings.columns), self.overrides
        )
        if settings.generation == OWN_PRESET:
            settings.generation = own_preset(settings.baseline)

    @cached_property
    def adapter(self) -> Adapter:
        """The adapter, built but not loaded.

        Raises PrerequisiteError for an unknown name, key or value.
        """
        return self._built.on(self.machine)

    @cached_property
    def _built(self) -> Adapter:
        fields = self._fields
        if not is_dataclass(self._class) and fields:
            raise PrerequisiteError(
                f"the adapter {self._name!r} has no settings, yet baseline."
                f"{next(iter(fields))} is given"
            )
        try:
            built = (
                OmegaConf.to_object(self._checked_fields)
                if is_dataclass(self._class)
                else self._class()
            )
        except OmegaConfBaseException as error:
            raise PrerequisiteError(explain(error, "baseline")) from error
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise PrerequisiteError(
                f"the adapter {self._name!r} cannot be built: {type(error).__name__}: "
                f"{first_line(error)}{where(error)}"
            ) from error
        assert isinstance(built, Adapter)
        plugin.check_modalities(self._name, built.modalities)
        return built

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that can change a description, as flat keys and plain values.

        Left out, because the words do not depend on it: batch size, workers, device, order,
        selection of clips, location of the data; also settings that this adapter does not use.
        (In half precision the batch size can change a word: each session of run.json records it.)
        """
        code = code_of_class(self._class)
        return {
            "baseline.adapter": self._name,
            **{f"baseline.{key}": value for key, value in self._plain_fields.items()},
            **({"baseline.code": code} if code else {}),
            "seed": self.settings.seed,
            **({"task": self.task.identity} if self.task.asks else {}),
            **({"sources": self._sources} if self._sources else {}),
            **self._switches,
        }

    @cached_property
    def folder(self) -> Path:
        """`outputs/<dataset>/<baseline>[-variant]`, a function of the configuration alone."""
        if self.at is not None:
            return self.at
        parts = [str(self.settings.baseline["name"]), *self._variant]
        name = "-".join(file_word(part) for part in parts)
        return self._dataset_folder / shortened(name, 200, whole=name)

    @property
    def _dataset_folder(self) -> Path:
        dataset = file_word(str(self.settings.dataset["name"]))
        source = self.settings.dataset.get("source")
        if source or "dataset.root" in self._overridden:
            root = str(Path(source or self.settings.dataset["root"]).expanduser().resolve())
            dataset += "-" + hashlib.blake2b(root.encode(), digest_size=3).hexdigest()
        return Path(self.settings.outputs) / dataset

    @property
    def machine(self) -> Machine:
        """Device, data type, engine and weights folder of the model."""
        settings = self.settings
        device, name = settings.machine.device, str(settings.baseline["name"])
        return Machine(device, self.dtype, settings.engine, settings.weights, name)

    @cached_property
    def dtype(self) -> str:
        """The type that the model runs in: `machine.dtype`, or where that is `auto` the yaml's
        `dtype` on a GPU and float32 on the CPU.

        Raises PrerequisiteError where a Ray cluster must be asked for its GPUs and is not there.
        """
        machine, own = self.settings.machine, str(self.settings.baseline.get("dtype") or OWN)
        on_gpu, launcher = self.on_gpu, self.settings.launcher
        if "load" not in self._class.defines or self._class.runs_elsewhere:
            return machine.dtype
        if launcher.get("name") == "ray" and launcher["address"] != "local":
            from ovmer.runners.ray_cluster import has_gpus

            on_gpu = launcher["gpus"] != 0 and has_gpus(str(launcher["address"]))
        return resolve_dtype(machine.dtype, machine.device, own, on_gpu)

    @property
    def dtype_warning(self) -> str:
        """What speaks against the type that the model runs in; empty where nothing does."""
        own = self.settings.baseline.get("dtype")
        if (own, self.dtype) != ("bfloat16", "float16"):
            return ""
        return (
            "the checkpoint is bfloat16, and numbers that large overflow in float16; clips whose "
            "scores do so fail, others may change; leave machine.dtype=auto"
        )

    @property
    def extractor(self) -> dict[str, Any]:
        """The extractor's settings, its dtype resolved for the machine that it runs on."""
        settings = self.settings.extractor
        if "dtype" not in settings:
            return settings
        device = str(settings.get("device", "auto"))
        return settings | {"dtype": resolve_dtype(settings["dtype"], device, on_gpu=self.on_gpu)}

    @property
    def media(self) -> MediaSettings:
        """How files are read; PrerequisiteError for a wrong value."""
        return MediaSettings(**asdict(self.settings.media))

    @cached_property
    def task(self) -> Task:
        """The task; PrerequisiteError for a wrong key or value."""
        return make_task(self.settings.task)

    @property
    def label(self) -> str:
        """The job's name in messages and tables."""
        return self.folder.name

    @property
    def extraction(self) -> str:
        """How labels are made, in a word; see `extraction_word`."""
        return extraction_word(self.settings)

    @property
    def is_dry(self) -> bool:
        """Whether a random miniature replaces the checkpoint."""
        return bool(self._switches.get("dry_run"))

    @property
    def uses_subtitle(self) -> bool:
        return SUBTITLE in self.adapter.modalities and self.settings.subtitle == "prompt"

    @property
    def _name(self) -> str:
        name = self.settings.baseline.get("adapter")
        if not isinstance(name, str):
            raise PrerequisiteError("baseline.adapter must name an adapter")
        return name

    @cached_property
    def _class(self) -> type[Adapter]:
        if ":" in self._name and self.at is not None:
            raise PrerequisiteError(
                f"{self.at} was made by the adapter {self._name}, a module that a run folder may "
                f"not have imported; install it as an entry point of the group {registry.GROUP}"
            )
        return registry.get(self._name)

    @cached_property
    def _fields(self) -> dict[str, Any]:
        """The adapter's fields as configured, the chosen generation preset among them."""
        baseline = self.settings.baseline
        fields = {key: value for key, value in baseline.items() if key not in NOT_FIELDS}
        if self.task.system is not None:
            fields["system"] = self.task.system
        presets, choice = _presets(baseline), self.settings.generation
        choices = list(presets or _PRESETS)
        if choice not in choices:
            raise PrerequisiteError(
                f"baseline {baseline['name']!r} has no generation={choice}; {near(choice, choices)}"
            )
        if presets:
            fields["generation"] = {**presets[choice], **self.task.generation}
        if not is_dataclass(self._class) or "bug_compat" not in self._class.__dataclass_fields__:
            fields.pop("bug_compat", None)  # set for all baselines of an experiment
        if "sources" in self._class.defines and isinstance(fields.get("runs"), list):
            fields["runs"] = [self._run_folder(str(run)) for run in fields["runs"]]
        return fields

    def _run_folder(self, named: str) -> str:
        """The folder of a run that this one joins; in a dry run or on a data set of another root,
        that of the same name among this job's own."""
        folder = Path(named).expanduser()
        baseline, *words = folder.name.split("-")
        ours = self._dataset_folder / "-".join([baseline, *["dry"] * self.settings.dry_run, *words])
        return named if folder.exists() or not ours.exists() else str(ours)

    @cached_property
    def _checked_fields(self) -> Any:
        """The fields with the defaults of the adapter's class filled in, as an OmegaConf node."""
        try:
            return OmegaConf.merge(OmegaConf.structured(self._class), self._fields)
        except OmegaConfBaseException as error:
            raise PrerequisiteError(explain(error, "baseline")) from error

    @cached_property
    def _plain_fields(self) -> Mapping[str, Any]:
        if not is_dataclass(self._class):
            return {}
        found = OmegaConf.to_container(self._checked_fields, enum_to_str=True)
        # Through JSON, so that it compares equal to what run.json gives back.
        plain: Mapping[str, Any] = json.loads(json.dumps(found, default=str))
        beside = self._class.beside_identity
        fields = {key: value for key, value in plain.items() if key not in beside}
        if "checkpoint" in fields:
            # The built adapter's: it may say which files of a repository it wants.
            parts: Mapping[str, CheckpointPart] = getattr(self._built, "checkpoint", {})
            fields["checkpoint"] = {
                name: describe_part(part, self.settings.weights, look=not self.settings.dry_run)
                for name, part in parts.items()
            }
        for key in self._class.named_files & fields.keys():
            if (file := Path(str(fields[key])).expanduser()).is_file():
                fields[key] = code_hash(file)
        return fields

    @cached_property
    def _sources(self) -> list[str]:
        """The runs that this one takes its clues from, as `ovmerd/secap`, in any folder."""
        if "sources" not in self._class.defines:
            return []
        return ["/".join(path.absolute().parts[-2:]) for path in self.adapter.sources()]

    @cached_property
    def _switches(self) -> dict[str, Any]:
        """The settings outside the baseline that this adapter's words depend on."""
        settings, cls, switches = self.settings, self._class, dict[str, Any]()
        if "miniature" in cls.defines:
            switches["dry_run"] = settings.dry_run
        if "load" in cls.defines:
            if not self.adapter.runs_elsewhere:
                switches["machine.dtype"] = "own" if self.dtype == OWN else self.dtype
            switches["engine"] = settings.engine["name"]
            for key, value in words_depend_on(settings.engine).items():
                switches[f"engine.{key}"] = value
        if SUBTITLE in self.adapter.modalities:
            # A subtitle that is merged afterwards is none of the model's business.
            switches["subtitle"] = "prompt" if self.uses_subtitle else "none"
            if self.uses_subtitle:
                switches["dataset.language"] = settings.dataset.get("language")
        if VIDEO in self.adapter.modalities:
            switches["dataset.visual"] = settings.dataset.get("visual")
            if self.media.reader != "auto":
                switches["media.reader"] = self.media.reader
        switches |= identities(settings, self.adapter.modalities)
        if settings.inputs != "all":
            switches["inputs"] = settings.inputs
        return switches

    @property
    def _overridden(self) -> list[str]:
        """The keys that the command line sets."""
        keys = [each.partition("=")[0].lstrip("+") for each in self.overrides if each[0] != "~"]
        return list(dict.fromkeys(keys))

    @property
    def _variant(self) -> list[str]:
        """Words for the folder's name: the settings that differ from the defaults."""
        settings, keys = self.settings, self._overridden
        words = task_words(settings, self.task, keys)
        if self.is_dry:
            words.append("dry")
        if settings.baseline.get("generation") and settings.generation != own_preset(
            settings.baseline
        ):
            words.append(settings.generation)
        words += switch_words(settings, self._switches, keys)
        if self._fields.get("bug_compat"):
            words.append("bug_compat")
        words += field_words(settings.baseline, self._class, keys)
        if self._sources:
            words.append("+".join(source.rpartition("/")[2] for source in self._sources))
        return words + ([settings.variant] if settings.variant else [])


def own_preset(baseline: Mapping[str, Any]) -> str:
    """The generation preset by which a baseline's authors run it: the first of these it has."""
    presets = _presets(baseline) or _PRESETS
    return next((name for name in _PRESETS if name in presets), next(iter(presets)))


def preset_of(settings: Settings) -> str:
    """The generation preset that a run decodes with; `-` for a baseline that has none."""
    return settings.generation if _presets(settings.baseline) else "-"


def _presets(baseline: Mapping[str, Any]) -> Mapping[str, Any]:
    """The generation presets of a baseline; a chat model whose yaml has none decodes greedily.

    Raises PrerequisiteError where a single value replaces one, or all of them.
    """
    found = baseline.get("generation") or ({"greedy": {}} if "architecture" in baseline else {})
    if not isinstance(found, Mapping):
        raise PrerequisiteError(
            f"baseline.generation={found} replaces all presets; to choose one, say "
            f"generation={found}"
        )
    for name, preset in found.items():
        if not isinstance(preset, Mapping):
            raise PrerequisiteError(
                f"baseline.generation.{name}={preset} replaces the whole preset; say "
                f"baseline.generation.{name}.KEY=VALUE, with max_new_tokens or another of its keys"
            )
    return found
