"""VideoChat2's three stages and what is wrong with them, on a miniature."""

import pytest
import torch

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.models.videochat2 import STAGE_FILES, VideoChat2, read_sizes, write_miniature
from ovmer.baselines.prompt_sizes import PromptSizes

CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture
def parts(tmp_path):
    return write_miniature(tmp_path, seed=4)


def change(parts, stage, edit):
    file = parts["stages"] / STAGE_FILES[stage]
    content = torch.load(file, weights_only=True)
    torch.save(edit(content) or content, file)


def without_queries(content):
    return {"model": {k: v for k, v in content["model"].items() if k != "query_tokens"}}


def test_sizes_of_the_published_model(parts):
    assert read_sizes(**parts) == PromptSizes(2048, positions=96, image=224)


def test_the_last_stage_that_has_a_tensor_counts(parts):
    third = torch.load(parts["stages"] / STAGE_FILES[2], weights_only=True)["model"]
    model = VideoChat2.load(**parts, placement=CPU)
    assert torch.equal(model.projector.weight, third["llama_proj.weight"].float())
    assert torch.equal(model.queries, third["query_tokens"].float())

    change(parts, 2, without_queries)
    second = torch.load(parts["stages"] / STAGE_FILES[1], weights_only=True)["model"]
    again = VideoChat2.load(**parts, placement=CPU)
    assert torch.equal(again.queries, second["query_tokens"].float())
    assert torch.equal(again.norm.weight, model.norm.weight)


def test_low_rank_adapters_change_queries_and_values_alone(parts):
    from ovmer.baselines.weight_files import read_tensors

    base = {key: tensor.read().float() for key, tensor in read_tensors(parts["llm"]).items()}
    adapted = VideoChat2.load(**parts, placement=CPU).llm.state_dict()
    differing = {key for key, tensor in adapted.items() if not torch.equal(tensor, base[key])}
    assert differing == {
        f"model.layers.{layer}.self_attn.{name}_proj.weight" for layer in (0, 1) for name in "qv"
    }


def test_a_stage_may_be_flat_or_nested(parts):
    frames = torch.zeros(2, 224, 224, 3, dtype=torch.uint8)
    nested = VideoChat2.load(**parts, placement=CPU).encode(frames)
    for stage in (1, 2):
        change(parts, stage, lambda content: content["model"])
    assert torch.equal(VideoChat2.load(**parts, placement=CPU).encode(frames), nested)


def test_the_instruction_reaches_the_queries(parts):
    frames = torch.zeros(2, 224, 224, 3, dtype=torch.uint8)
    usual, other = (
        VideoChat2.load(**parts, placement=CPU, **said).encode(frames)
        for said in ({}, {"instruction": (101, 1012, 102)})
    )
    assert usual.shape == other.shape == (96, 32)
    assert not torch.allclose(usual, other, rtol=1e-3)


@pytest.mark.parametrize(
    ("stage", "edit", "message"),
    [
        (2, lambda c: c["model"].update(unknown=torch.zeros(1)), "has no place for .*unknown"),
        (
            2,
            lambda c: {"model": {k: v for k, v in c["model"].items() if "lora_B" not in k}},
            "lacks llm.model.layers.0.self_attn.q_proj.lora_B",
        ),
        (
            2,
            lambda c: c["model"].update(query_tokens=torch.zeros(1, 31, 25)),
            r"query_tokens has shape \[1, 31, 25\]",
        ),
    ],
)
def test_what_is_wrong_with_a_stage_is_named(parts, stage, edit, message):
    change(parts, stage, edit)
    with pytest.raises(CheckpointError, match=message):
        VideoChat2.load(**parts, placement=CPU)


@pytest.mark.parametrize("stage", STAGE_FILES)
def test_a_missing_stage_is_named(parts, stage):
    (parts["stages"] / stage).unlink()
    with pytest.raises(CheckpointError, match=f"has no {stage}"):
        VideoChat2.load(**parts, placement=CPU)


def test_files_of_another_model_are_named(parts):
    for stage in STAGE_FILES:
        torch.save({"model": {"weight": torch.zeros(2)}}, parts["stages"] / stage)
    with pytest.raises(CheckpointError, match="no UMT video tower"):
        VideoChat2.load(**parts, placement=CPU)
