"""AffectGPT's modules and its published files, on a miniature. (Golden data pin the numbers.)"""

import json

import numpy as np
import pytest
import torch

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.models.affectgpt import AffectGpt, preprocess
from ovmer.baselines.models.affectgpt_miniature import write_miniature

CPU = Placement(torch.device("cpu"), torch.float32)
LORA = "llama_model.base_model.model.model.layers.1.mlp.down_proj.lora_B.default.weight"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("affectgpt"), 0, "checkpoint_000030_loss_0.pth")


def read(parts):
    return torch.load(parts["trained"], weights_only=True)


def test_the_same_seed_writes_the_same_weights(published, tmp_path):
    found = [read(published)["model"]]
    for seed in (0, 1):
        parts = write_miniature(tmp_path / str(seed), seed, "checkpoint_000030_loss_0.pth")
        found.append(read(parts)["model"])
    first, again, other = found
    assert first.keys() == again.keys() == other.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["fc_att.weight"], other["fc_att.weight"])


def test_adapters_are_merged_at_their_scale(published):
    """Alpha 32 over rank 2, where the released have 16."""
    trained, down = read(published)["model"], LORA.replace("lora_B", "lora_A")
    model = AffectGpt.load(**published, placement=CPU)
    merged = model.llm.model.layers[1].mlp.down_proj.weight
    alone = merged - 16 * trained[LORA].float() @ trained[down].float()
    with torch.inference_mode():
        bare = (
            AffectGpt.load(**published | {"trained": _without_adapters(published)}, placement=CPU)
            .llm.model.layers[1]
            .mlp.down_proj.weight
        )
    assert torch.allclose(alone, bare, atol=1e-6)


def _without_adapters(parts):
    content = read(parts)
    for key, tensor in content["model"].items():
        if "lora_B" in key:
            tensor.zero_()
    file = parts["trained"].with_name("bare.pth")
    torch.save(content, file)
    return file


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (LORA, r"\.pth lacks llm\.model\.layers\.1\.mlp\.down_proj\.lora_B"),
        ("fc_att.bias", "AffectGpt needs multi.weights.bias"),
    ],
)
def test_a_checkpoint_that_lacks_a_tensor_is_named(copied, key, said):
    content = read(copied)
    del content["model"][key]
    torch.save(content, copied["trained"])
    with pytest.raises(CheckpointError, match=said):
        AffectGpt.load(**copied, placement=CPU)


def test_a_checkpoint_of_another_fusion_is_named(copied):
    content = read(copied)
    content["model"]["video_Qformer.bert.encoder.layer.0.weight"] = torch.zeros(2)
    torch.save(content, copied["trained"])
    with pytest.raises(CheckpointError, match=r"no place for .*video_Qformer"):
        AffectGpt.load(**copied, placement=CPU)


def test_a_folder_that_holds_no_clip_is_named(copied):
    config = json.loads((copied["clip"] / "config.json").read_text())
    del config["vision_config"]
    (copied["clip"] / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="lacks vision_config; is it a CLIP"):
        AffectGpt.load(**copied, placement=CPU)


def test_hubert_is_read_as_older_and_newer_releases_of_torch_write_it(published, copied):
    file = copied["hubert"] / "pytorch_model.bin"
    held = torch.load(file, weights_only=True)
    newer = {
        key.replace("weight_g", "parametrizations.weight.original0").replace(
            "weight_v", "parametrizations.weight.original1"
        ): tensor
        for key, tensor in held.items()
    }
    assert newer.keys() != held.keys()
    torch.save(newer, file)
    sound = torch.randn(8, 32000, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        older, newer = (AffectGpt.load(**p, placement=CPU).hear(sound) for p in (published, copied))
    assert older.shape == (8, 32)
    assert torch.equal(older, newer)


def test_stretches_are_scaled_together_but_centred_apart():
    """So a whisper among shouts stays one, and a drift of the microphone goes."""
    draw = np.random.default_rng(4)
    loudness = np.linspace(0.01, 1, 8)[:, None]
    stretches = (draw.normal(size=(8, 32000)) * loudness + draw.normal(size=(8, 1))) / 10
    sound = preprocess(stretches.astype(np.float32)).numpy()
    assert np.abs(sound.mean(axis=1)).max() < 1e-5
    assert sound.std() == pytest.approx(1, abs=1e-4)
    assert sound[0].std() / sound[7].std() == pytest.approx(0.01, rel=0.02)
    silence = preprocess(np.zeros((8, 32000), np.float32))
    assert not silence.any()
