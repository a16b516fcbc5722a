"""The memory that training takes beside the weights, against what autograd keeps and by card."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from ovmer.baselines.device import GIB
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.training.lora import Lora, attach
from ovmer.runners.training.optimise import check_memory, memory_needed
from ovmer.runners.training.run import TrainingRun, make_trainable
from ovmer.runners.training.settings import LoraSettings, Recipe, compose_train
from tests.training.conftest import QWEN_7B

ALL = compose_train(["recipe=affectgpt"]).train.lora.targets
SOME = ["q_proj", "v_proj"]
TOKENS = 2 * 64
CUDA = torch.device("cuda:0")


def llm(dtype: torch.dtype, targets: list[str], **sizes: int) -> nn.Module:
    model = Qwen2ForCausalLM(Qwen2Config(**sizes)).to(dtype).requires_grad_(False)
    attach(model, Lora(16, 32, 0.0, targets))
    return model.train()


def kept(model: nn.Module, dtype: torch.dtype) -> int:
    """Bytes that autograd keeps of a step, each storage once and without the weights."""
    weights = {each.untyped_storage().data_ptr() for each in model.parameters()}
    found: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if (where := tensor.untyped_storage().data_ptr()) not in weights:
            found[where] = tensor
        return tensor

    config: Any = model.config
    embeds = torch.randn(2, TOKENS // 2, config.hidden_size, dtype=dtype)
    labels = torch.zeros(2, TOKENS // 2, dtype=torch.long)
    half = torch.autocast("cpu", dtype, enabled=dtype != torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), half:
        model(inputs_embeds=embeds, labels=labels, use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values())


# In float32 and without dropout q, k and v share their input, which counts three times.
@pytest.mark.parametrize(
    ("dtype", "targets", "within"),
    [(torch.bfloat16, ALL, 0.1), (torch.bfloat16, SOME, 0.1), (torch.float32, ALL, 0.2)],
    ids=["half all", "half some", "whole all"],
)
def test_a_layer_takes_what_autograd_keeps(dtype, targets, within):
    sizes = {"vocab_size": 100, "hidden_size": 112, "intermediate_size": 592}
    sizes |= {"num_attention_heads": 7, "num_key_value_heads": 1}
    two, six = (llm(dtype, targets, num_hidden_layers=n, **sizes) for n in (2, 6))
    recipe = Recipe(lora=LoraSettings(dropout=0, targets=targets))

    def estimated(model: nn.Module) -> int:
        return memory_needed(SimpleNamespace(llm=model, parameters=list), recipe, TOKENS)

    four_layers = kept(six, dtype) - kept(two, dtype)
    assert estimated(six) - estimated(two) == pytest.approx(four_layers, rel=within)


@pytest.fixture(scope="module")
def seven() -> Any:
    """AffectGPT's language model and what is trained, without data."""
    with torch.device("meta"):
        model = llm(torch.bfloat16, ALL, **QWEN_7B)
        connectors = nn.Linear(16_798_467, 1)  # as many parameters
    assert sum(each.numel() for each in model.parameters() if each.requires_grad) == 40_370_176
    return SimpleNamespace(
        llm=model, parameters=lambda: [*model.parameters(), *connectors.parameters()]
    )


WEIGHTS = 17.8 * 10**9
"""7.62 billion parameters in half precision, CLIP and HuBERT (0.62 billion) in float32."""


@pytest.mark.parametrize(
    ("card", "settings", "longest", "remedy"),
    [
        (24, [], 300, "train.gradient_checkpointing=true or a smaller train.batch_size with"),
        (24, ["train.gradient_checkpointing=true"], 300, None),
        (24, ["train.gradient_checkpointing=true"], 1024, "set a smaller train.batch_size"),
        (40, [], 300, None),
        (40, [], 1024, "train.gradient_checkpointing=true"),
        (80, [], 1024, None),
        (24, ["train.batch_size=1", "train.gradient_checkpointing=true"], 9999, "a larger GPU"),
    ],
)
def test_what_fits_which_card(monkeypatch, seven, card, settings, longest, remedy):
    recipe = compose_train(["recipe=affectgpt", *settings]).train
    free = int(card * GIB - WEIGHTS)
    monkeypatch.setattr("ovmer.baselines.device.free_memory", lambda device: free)

    def check() -> None:
        check_memory(seven, recipe, CUDA, lambda: recipe.batch_size * longest)

    if remedy is None:
        check()
        return
    with pytest.raises(PrerequisiteError) as caught:
        check()
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given", [("recipe=affectgpt_frame",), ("recipe=lora", "baseline=salmonn")], ids=["own", "port"]
)
def test_the_longest_row_is_that_of_a_sample(tmp_path, given):
    given = (*given, "dry_run=true", f"outputs={tmp_path}")
    run = TrainingRun(compose_train(given), given)
    (examples,), _ = run.examples()
    example = next(each for each in examples if each.clip.name == "farewell")
    trainable = make_trainable(run.settings, run.job, tmp_path)
    trainable.build(torch.device("cpu"), torch.float32)
    samples = [trainable.sample(example, kind) for kind in run.recipe.kinds]
    lengths = [len(trainable.prompts([each.inputs])[0]) + len(each.answer) for each in samples]
    assert trainable.longest([example]) == max(lengths)
