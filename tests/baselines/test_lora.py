"""Merging low-rank adapters."""

import pytest
import torch

from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.lora import LORA_KEYS, merge_lora
from ovmer.baselines.weights import rename
from tests.baselines.tensors import lazy

BASE = {"q.weight": torch.randn(6, 4).half(), "q.bias": torch.ones(6), "k.weight": torch.ones(6, 4)}
DOWN, UP = torch.randn(2, 4), torch.randn(6, 2)


@pytest.mark.parametrize("spelling", ["lora_{}.weight", "lora_{}.default.weight"])
def test_the_sum_is_taken_in_float32(spelling):
    names = {f"q.{spelling.format('A')}": DOWN, f"q.{spelling.format('B')}": UP.half()}
    adapters = rename(lazy(names), LORA_KEYS)
    merged = merge_lora(lazy(BASE), adapters, alpha=32, modules=["q"])
    assert merged.keys() == BASE.keys()
    expected = BASE["q.weight"].double() + 16 * UP.half().double() @ DOWN.double()
    found = merged["q.weight"].read()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-5)
    for key in ("q.bias", "k.weight"):
        assert merged[key].read() is BASE[key]


@pytest.mark.parametrize(
    ("adapters", "modules", "message"),
    [
        ({"q.lora_A": DOWN}, ["q"], "lacks q.lora_B, one of 1 low-rank"),
        ({}, ["k", "q"], r"lacks k.lora_A, one of 4 .*\(2 pairs\)"),
        ({"q.lora_A": DOWN, "q.lora_B": UP, "v.lora_A": DOWN}, ["q"], "unexpected v.lora_A"),
        ({"q.lora_A": DOWN, "q.lora_B": UP[:4]}, ["q"], r"lora_A and file: q.lora_B .* do not fit"),
        ({"q.lora_A": DOWN, "q.lora_B": UP[:, :1]}, ["q"], r"\[2, 4\] and \[6, 1\], which do not"),
        ({"q.lora_A": DOWN[None], "q.lora_B": UP}, ["q"], "which do not fit file: q.weight"),
        ({"q.lora_A": DOWN[0, 0], "q.lora_B": UP}, ["q"], "which do not fit file: q.weight"),
    ],
)
def test_a_model_is_never_run_without_its_adapters(adapters, modules, message):
    with pytest.raises(CheckpointError, match=message):
        merge_lora(lazy(BASE), lazy(adapters), 32, modules)


def test_a_base_that_lacks_the_weight_is_left_to_strict_loading():
    adapters = lazy({"v.lora_A": DOWN, "v.lora_B": UP})
    assert merge_lora(lazy(BASE), adapters, 32, ["v"]).keys() == BASE.keys()
