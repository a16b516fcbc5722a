"""Settings that messages name are keys that compose: a remedy that is no key is worse than none."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ovmer.adapters.base import AUDIO, VIDEO
from ovmer.adapters.mllm import Mllm
from ovmer.runners.config import CONF, settings_from_overrides, shipped_baselines
from ovmer.runners.job import Job
from tests.runners.jobs import job

SOURCE = CONF.parent
GROUPS = ("baseline", "engine", "extractor", "dataset", "metric", "launcher", "machine", "media")
KEY = re.compile(rf"(?<![\w.@/])(\+?(?:{'|'.join(GROUPS)})(?:\.[a-z_]+)+)(?![\w(])")
NO_REMEDIES = {
    "baseline.code": "a key of run.json",
    "baseline.shrink": "stands in a yaml of one's own",
    "metric.protocols": "comes with task=",
    "extractor.engine": "the place of a group",
}
BASELINES, SETTINGS = shipped_baselines(), settings_from_overrides([])


def texts(file: Path) -> Iterator[str]:
    """The strings of a module, its docstrings left out."""
    tree = ast.parse(file.read_text("utf-8"))
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


def said() -> dict[str, list[str]]:
    """Key -> the modules whose messages name it."""
    found: dict[str, list[str]] = {}
    for folder in ("adapters", "baselines", "runners"):
        for file in sorted((SOURCE / folder).rglob("*.py")):
            for text in texts(file):
                for key in KEY.findall(text):
                    found.setdefault(key, []).append(str(file.relative_to(SOURCE)))
    return found


def configured(group: str) -> list[Mapping[str, Any]]:
    """Everything that ships as this part of the configuration."""
    if group == "baseline":
        return list(BASELINES.values())
    top = yaml.safe_load((CONF / "config.yaml").read_text("utf-8"))
    if group in ("machine", "media"):
        return [top[group]]
    files = [yaml.safe_load(f.read_text("utf-8")) for f in sorted((CONF / group).rglob("*.yaml"))]
    return files + [each["dataset"] for each in files if "dataset" in each]


def holds(values: Any, path: list[str]) -> bool:
    return not path or (path[0] in (values or {}) and holds(values[path[0]], path[1:]))


def test_every_key_that_a_message_names_is_one() -> None:
    keys = said()
    assert len(keys) > 50, "the pattern has lost its messages"
    wrong = []
    for key, places in keys.items():
        group, *path = key.lstrip("+").split(".")
        path = path[:-1] if key.startswith("+") else path  # what is added needs its parent alone
        if key not in NO_REMEDIES and not any(holds(each, path) for each in configured(group)):
            wrong.append(f"{key} ({', '.join(places)})")
    assert not wrong, "; ".join(wrong)


def test_what_is_excepted_is_still_said() -> None:
    assert NO_REMEDIES.keys() <= said().keys()


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_every_model_takes_the_remedies_for_prompts_that_are_too_long(name: str) -> None:
    overrides = [f"baseline={name}"]
    if "generation" in BASELINES[name]:
        presets = BASELINES[name]["generation"]
        preset = next(each for each in ("paper", "card", "greedy") if each in presets)
        overrides.append(f"baseline.generation.{preset}.max_new_tokens=7")
    if BASELINES[name]["adapter"] == "native":
        settings = replace(SETTINGS, baseline=BASELINES[name])
        uses = Job(settings).adapter.modalities
        overrides += ["baseline.frames=4"] * (VIDEO in uses)
        overrides += ["baseline.seconds=4"] * (AUDIO in uses)
    adapter = job(*overrides).adapter
    if isinstance(adapter, Mllm):
        assert adapter.generation.max_new_tokens == 7
    for override in overrides[2:]:
        key, _, value = override.removeprefix("baseline.").partition("=")
        assert getattr(adapter, key) == int(value)


@pytest.mark.parametrize(
    "overrides",
    [
        ("machine.dtype=bfloat16",),
        ("extractor=qwen25", "extractor.dtype=bfloat16"),
        ("engine=vllm", "engine.memory=0.5", "engine.context=2048"),
        ("engine=vllm", "+engine.options.quantization=fp8"),
        ("engine.quantization=4bit",),
        ("engine.attention=sdpa", "engine.batch_size=1"),
        ("engine=server", "engine.base_url=http://localhost:8000/v1"),
        ("extractor=qwen25", "engine@extractor.engine=transformers"),
        ("extractor=qwen25", "extractor.sampling=paper", "extractor.seeds=[0,1]"),
        ("launcher=ray", "launcher.workers=1", "launcher.timeout=300"),
        ("media.reader=pyav", "media.seconds=60"),
        ("redo=failed",),
        ("weights=/models",),
        ("variant=word",),
    ],
)
def test_a_remedy_composes(overrides: tuple[str, ...]) -> None:
    made = job("baseline=video_llava", "dataset=sample", *overrides)
    assert made.overrides[2:] == overrides
    assert made.adapter.modalities
