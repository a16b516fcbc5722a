"""The table of baselines in docs says what the configurations, adapters and goldens say."""

import re
from importlib import import_module

import pytest
import yaml

from ovmer.adapters import registry
from ovmer.adapters.base import AUDIO, MEDIA, VIDEO
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
