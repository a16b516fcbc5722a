"""The table of baselines in docs says what the configurations, adapters and goldens say."""

import re
from importlib import import_module
from typing import Any

import pytest
import yaml

from ovmer.adapters import registry
from ovmer.adapters.base import AUDIO, MEDIA, VIDEO
from ovmer.runners.config import shipped_baselines
from tests import ROOT

ROWS = {
    name: [cell.strip() for cell in cells.split("|")[1:-1]]
    for name, cells in re.findall(
        r"^\| `(\w+)` (\|.*)$",
        (ROOT / "docs" / "baselines.md").read_text(encoding="utf-8"),
        flags=re.M,
    )
}
GOLDEN = sorted(each.parent.name for each in (ROOT / "tests" / "golden").glob("*/checkpoint"))


def test_the_table_has_the_ports_that_are_pinned_and_no_others():
    assert sorted(name for name in ROWS if name in registry.BUILT_IN) == GOLDEN


@pytest.mark.parametrize("name", GOLDEN)
def test_a_row_agrees_with_what_is_run(name):
    uses, llm, checkpoint, _, stages, _ = ROWS[name]
    settings = yaml.safe_load((ROOT / f"conf/baseline/{name}.yaml").read_text(encoding="utf-8"))
    adapter = registry.get(settings["adapter"])

    words = {VIDEO: ("video", "frames"), AUDIO: ("sound",)}
    named = {medium for medium in words if any(word in uses for word in words[medium])}
    assert named == (MEDIA if "prompts" in settings else adapter.modalities & MEDIA)

    repos = {part["repo"] for part in settings["checkpoint"].values() if part["repo"]}
    named_repos = set(re.findall(r"[\w.-]+/[\w.-]+", checkpoint))
    assert named_repos <= repos
    assert named_repos or not repos
    module = import_module(f"ovmer.baselines.models.{name}")
    assert ("LoRA" in llm) == hasattr(module, "merge_lora")

    assert {"logits", "ids"} <= set(re.findall(r"\w+", stages))


SHIPPED = shipped_baselines()
CHAT_ROWS = {name: cells for name, cells in ROWS.items() if len(cells) == 4 and name in SHIPPED}
USES = {"video": "video", "audio": "sound", "both": "video, sound or both"}


def frames_of(settings: dict[str, Any]) -> str:
    if "frames" not in settings:
        return ""
    images = ", as images" if settings.get("picture") == "images" else ""
    if fps := settings.get("fps"):
        return f"{fps:g} a second, at most {settings['frames']}{images}"
    return f"{settings['frames']}{images}"


@pytest.mark.parametrize("name", CHAT_ROWS)
def test_a_row_of_a_chat_model_agrees_with_its_yaml(name):
    uses, frames, repo, _ = CHAT_ROWS[name]
    settings = SHIPPED[name]
    assert uses == USES[settings["modalities"]]
    assert frames == frames_of(settings)
    assert repo == settings["checkpoint"]["model"]["repo"]


def test_every_model_that_is_sampled_as_its_card_says_is_named():
    assert len(CHAT_ROWS) >= 20
    page = (ROOT / "docs" / "chat_models.md").read_text(encoding="utf-8")
    table = page.split("| baseline | `card` | tokens |")[1].partition("\n\n")[0]
    with_card = {
        name for name, settings in SHIPPED.items() if "card" in settings.get("generation", {})
    }
    assert set(re.findall(r"`(\w+)`", table)) == with_card
