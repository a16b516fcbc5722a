"""What runs are called: the words of a folder's name, and that of how labels were made."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ovmer.adapters.base import Adapter
from ovmer.baselines.checkpoint import BESIDE_CONTENT
from ovmer.runners.config import Settings, shipped_extractor
from ovmer.runners.file_names import file_word
from ovmer.runners.tasks.task import Task

_BESIDE_CONTENT = tuple(f".{name}" for name in BESIDE_CONTENT)
_MAKES_LABELS = ("model", "sampling", "translate", "merge", "labels", "parser", "sentences")
"""Settings of an extractor that its labels are called by, where they are unusual."""
_UNNAMED = frozenset({"translate", "sentences"})
"""Of these, the keys whose values say little alone."""


def task_words(settings: Settings, task: Task, overridden: Collection[str]) -> list[str]:
    """The task, question and choices that are not those of the data set.

    `overridden` are the keys that the command line sets.
    """
    if not task.asks:
        return []
    words = list[str]()
    brings_task = bool((settings.dataset.get("rows") or {}).get("file"))
    if "task" in overridden or not brings_task:
        words.append(task.name)
    for key in ("question", "choices"):
        if key in overridden:
            value = getattr(settings, key)
            words.append("+".join(value) if isinstance(value, list) else str(value))
    return words


def switch_words(
    settings: Settings, switches: Mapping[str, Any], overridden: Collection[str]
) -> list[str]:
    """The unusual ones of `switches`: settings outside the baseline that its words depend on."""
    words = list[str]()
    if switches.get("subtitle", "prompt") != "prompt":
        words.append("apart")  # the subtitle, from the question; merged in afterwards or not
    if switches.get("dataset.visual", "frame") != "frame":
        words.append(str(switches["dataset.visual"]))
    if "dataset.language" in switches and "dataset.language" in overridden:
        words.append(str(switches["dataset.language"]))
    of_the_authors = ("auto", settings.baseline.get("dtype"))
    if "machine.dtype" in switches and settings.machine.dtype not in of_the_authors:
        words.append(settings.machine.dtype)
    if switches.get("engine", "transformers") != "transformers":
        words.append(settings.engine["name"])
    for key, value in switches.items():
        if key.startswith("engine."):
            words.append(f"{key.removeprefix('engine.')}_{str(value).lower()}")
    if "media.reader" in switches:
        words.append(switches["media.reader"])
    words += [str(settings.asr["name"])] if "asr" in switches else []
    words += ["detected"] if "faces" in switches else []
    if "inputs" in switches:
        words.append(settings.inputs)
    if settings.seed:
        words.append(f"seed{settings.seed}")
    return words


def field_words(
    baseline: Mapping[str, Any], cls: type[Adapter], overridden: Collection[str]
) -> list[str]:
    """`baseline.labels=3` -> `labels_3`: jobs that differ in it get folders of their own.

    Keys are in the command line's order. The values are the configured ones, since Hydra respells
    the overrides of a sweep.
    """
    keys = [key.partition(".")[2] for key in overridden if key.startswith("baseline.")]
    beside = {"name", "title", "needs", "bug_compat"} | cls.beside_identity
    return [
        _field_word(baseline, cls, key)
        for key in keys
        if key.partition(".")[0] not in beside
        and not (key.startswith("checkpoint.") and key.endswith(_BESIDE_CONTENT))
    ]


def _field_word(baseline: Mapping[str, Any], cls: type[Adapter], key: str) -> str:
    value: Any = baseline
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if key == "adapter":
        return str(value).rpartition(":")[2]
    if key in cls.named_files:
        value = Path(str(value)).name
    return f"{key}_{value if isinstance(value, str) else json.dumps(value)}"


def extraction_word(settings: Settings) -> str:
    """How labels are made, in a word: `qwen25-paper-merge`.

    Labels of different making have different words, so that both results stay.
    """
    extractor = settings.extractor
    protocol = settings.baseline.get("protocol") or {}
    own = {"sampling": "greedy", "translate": protocol.get("translate", "none")}
    usual = {**shipped_extractor(extractor["name"]), **own}
    words = [extractor["name"]]
    for key in _MAKES_LABELS:
        value = extractor.get(key, usual.get(key))
        if value != usual.get(key) and isinstance(value, str | int):
            words.append(file_word(f"{key}_{value}" if key in _UNNAMED else str(value)))
    return "-".join([*words, "merge"] if settings.subtitle == "merge" else words)
