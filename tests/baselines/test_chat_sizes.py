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
from tests.adapters.chat_models import NATIVE, content_of

SIZES: dict[str, dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("chat_sizes.yaml").read_text("utf-8")
)
CHECKED = [name for name, each in SIZES.items() if each["parameters"]]
IN_EVERY_RUN = ("qwen2_5_omni",)
SAME = {
    "emocaliber": "qwen2_5_vl", "unifer": "qwen2_5_vl",
    "human_omni_v2": "qwen2_5_omni", "saber_llm": "qwen2_5_omni",
    "qwen3_omni_captioner": "qwen3_omni_thinking",
}  # fmt: skip
"""Models of the same class and sizes as another; no count of their own files is public."""
UNKNOWN = {
    "glm4_1v", "llava_next_video", "llava_onevision", "mimo_vl", "videollama3", "voxtral",
    "minicpm_v4_7",  # its card names no size
    "phi4_multimodal",  # the files of the revision that transformers reads are not described
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
    assert len(CHECKED) + len(SAME) + len(UNKNOWN) == len(NATIVE)
    assert set(NATIVE) == {*CHECKED, *SAME, *UNKNOWN}


@pytest.mark.parametrize("name", SAME)
def test_a_model_of_the_sizes_of_another_has_its_class_and_fills_files_as_large(name: str) -> None:
    (one, other), size = (content_of(name), content_of(SAME[name])), SIZES[SAME[name]]
    assert one["architecture"] == other["architecture"]
    taken = size["parameters"] - sum(size.get("unused", {}).values())
    assert one["checkpoint"]["model"]["gb"] == pytest.approx(2 * taken / 1e9, rel=0.03)


@pytest.mark.parametrize("name", CHECKED)
def test_sizes_in_the_yaml_are_those_of_the_files(name: str) -> None:
    size = SIZES[name]
    whole = size["parameters"] * size.get("bytes", 2) / 1e9
    assert content_of(name)["checkpoint"]["model"]["gb"] == pytest.approx(whole, rel=0.03)
