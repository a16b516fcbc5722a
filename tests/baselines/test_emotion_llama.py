"""Emotion-LLaMA's modules and published files, on a miniature. (Golden data pin the numbers.)"""

import shutil
from pathlib import Path

import pytest
import torch

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.models.emotion_llama import (
    EmotionLlama,
    EmotionLlamaSizes,
    read_sizes,
    trained_file,
    write_miniature,
)

CPU = Placement(torch.device("cpu"), torch.float32)
LORA = "llama_model.base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("emotion_llama"), 0)


@pytest.fixture
def copied(published, tmp_path):
    """The same parts with a file of what was trained that can be spoiled."""
    return {**published, "trained": Path(shutil.copy(published["trained"], tmp_path))}


def spoil(parts, change):
    content = torch.load(parts["trained"], weights_only=True)
    change(content["model"])
    torch.save(content, parts["trained"])


def load(parts):
    return EmotionLlama.load(**parts, placement=CPU)


def test_the_same_seed_writes_the_same_weights(published, tmp_path):
    first, again, other = (
        torch.load(parts["trained"], weights_only=True)["model"]
        for parts in (
            published,
            write_miniature(tmp_path / "0", 0),
            write_miniature(tmp_path / "1", 1),
        )
    )
    assert first.keys() == again.keys() == other.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["llama_proj.weight"], other["llama_proj.weight"])


def test_sizes_are_those_of_the_published_model(published):
    parts = [published[name] for name in ("trained", "vision", "llm")]
    assert read_sizes(*parts) == EmotionLlamaSizes(4096, positions=260, image=448, features=1024)


def test_adapters_are_merged_at_their_scale(published, copied):
    """Alpha 16 over rank 2, where the released have 64."""
    trained = torch.load(published["trained"], weights_only=True)["model"]
    spoil(copied, lambda state: state[LORA].zero_())
    merged, bare = (
        load(parts).llm.model.layers[1].self_attn.v_proj.weight for parts in (published, copied)
    )
    added = 8 * trained[LORA].float() @ trained[LORA.replace("lora_B", "lora_A")].float()
    assert torch.allclose(merged - bare, added, atol=1e-6)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (LORA, r"\.pth lacks llm\.model\.layers\.1\.self_attn\.v_proj\.lora_B"),
        ("cls_tk_llama_proj.bias", "EmotionLlama needs whole.bias"),
        ("feats_llama_proj2.weight", "no projection of the video vector; is it a checkpoint of"),
    ],
)
def test_a_checkpoint_that_lacks_a_tensor_is_named(copied, key, said):
    spoil(copied, lambda state: state.pop(key))
    with pytest.raises(CheckpointError, match=said):
        load(copied)


def test_the_checkpoint_that_training_began_with_is_refused(copied):
    """MiniGPT-v2's file has the adapters and one linear layer."""

    def begin(state):
        for key in [key for key in state if key.startswith(("feats_", "cls_", "attention"))]:
            del state[key]

    spoil(copied, begin)
    with pytest.raises(CheckpointError, match="not MiniGPT-v2's, with which its training began"):
        load(copied)


def test_later_releases_of_peft_name_adapters_otherwise(published, copied):
    def rename(state):
        for key in [key for key in state if ".lora_" in key]:
            state[key.replace(".weight", ".default.weight")] = state.pop(key)

    spoil(copied, rename)
    first, other = load(published).state_dict(), load(copied).state_dict()
    assert all(torch.equal(first[key], other[key]) for key in first)


def test_one_file_of_the_authors_folder_is_enough(tmp_path):
    with pytest.raises(CheckpointError, match=r"one \.pth file but holds none"):
        trained_file(tmp_path)
    folder = tmp_path / "save_checkpoint" / "stage2"
    folder.mkdir(parents=True)
    best = folder / "checkpoint_best.pth"
    best.touch()
    assert trained_file(tmp_path) == best == trained_file(best)
    (folder.parent / "Emoation_LLaMA.pth").touch()
    with pytest.raises(CheckpointError, match=r"holds Emoation_LLaMA\.pth, checkpoint_best\.pth;"):
        trained_file(tmp_path)


def test_a_folder_without_a_tower_is_named(published, tmp_path):
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        load({**published, "hubert": tmp_path})
    with pytest.raises(CheckpointError, match=r"has no eva_vit_g\.pth"):
        load({**published, "vision": tmp_path})


def test_vectors_follow_each_other_as_in_the_authors_code(published):
    """Strips of four patches, then face, video, sound, and the whole picture last."""
    model = load(published)
    seen = torch.zeros(1025, 32)
    features = torch.zeros(3, 1024)
    with torch.inference_mode():
        nothing = model.connect(seen, features)
        assert nothing.shape == (260, 32)
        for token, row in ((0, 259), (1, 0), (4, 0), (5, 1), (33, 8), (1024, 255)):
            marked = seen.clone()
            marked[token] = 1
            changed = (model.connect(marked, features) != nothing).any(dim=1).nonzero()
            assert changed.tolist() == [[row]]
