"""Chat models at their published sizes, without data: counts, and shapes from media to logits.

`chat_sizes.yaml` has the configurations. A model that fills the hub's files to the number is the
class, with the sizes, that the files were made with.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from ovmer.baselines.native.classes import class_named
from ovmer.baselines.weights import weightless
from tests.adapters.test_native import NATIVE, content_of

SIZES: dict[str, dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("chat_sizes.yaml").read_text("utf-8")
)
CHECKED = [name for name, each in SIZES.items() if each["parameters"]]
IN_EVERY_RUN = ("qwen2_5_omni",)
UNKNOWN = {
    "emocaliber", "human_omni_v2", "mimo_vl", "saber_llm", "unifer",  # no count of them is public
    "glm4_1v", "llava_next_video", "llava_onevision", "videollama3", "voxtral",
    "minicpm_v4_7",  # its card names no size
    "phi4_multimodal",  # the files of the revision that transformers reads are not described
    "qwen3_omni_captioner",  # as qwen3_omni_thinking, by its class
}  # fmt: skip
"""Models whose counts are not checked."""


def marked(names: list[str]) -> list[Any]:
    marks = {True: (), False: (pytest.mark.by_hand,)}
    return [pytest.param(name, marks=marks[name in IN_EVERY_RUN]) for name in names]


def built(name: str) -> nn.Module:
    config_class = class_named(content_of(name)["architecture"]).config_class
    config = config_class.from_dict(SIZES[name]["config"])
    config._attn_implementation = "eager"  # the others look at masks
    with weightless():
        model: nn.Module = class_named(content_of(name)["architecture"])(config)
    return model.to("meta", torch.bfloat16).eval()


def stored(model: Any) -> int:
    """Numbers in the model's files: parameters and buffers, a tied head left out.

    The hub counts a tensor without dimensions (the bounds in Gemma 4's ears) as none.
    """
    tied = model._tied_weights_keys if getattr(model.config, "tie_word_embeddings", False) else {}
    tensors = model.state_dict().items()
    return sum(each.numel() for name, each in tensors if each.dim() and name not in tied)


@pytest.mark.parametrize("name", marked(CHECKED))
def test_the_class_takes_what_is_in_the_published_files(name: str) -> None:
    size = SIZES[name]
    assert stored(built(name)) == size["parameters"] - sum(size.get("unused", {}).values())


def test_every_model_is_checked_or_named_as_unknown() -> None:
    assert set(CHECKED).isdisjoint(UNKNOWN)
    assert set(NATIVE) == set(CHECKED) | UNKNOWN


@pytest.mark.parametrize("name", CHECKED)
def test_sizes_in_the_yaml_are_those_of_the_files(name: str) -> None:
    size = SIZES[name]
    whole = size["parameters"] * size.get("bytes", 2) / 1e9
    assert content_of(name)["checkpoint"]["model"]["gb"] == pytest.approx(whole, rel=0.03)
