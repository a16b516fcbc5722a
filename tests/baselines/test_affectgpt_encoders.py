"""The frozen parts of the paper's Figure 4, against transformers' own reading of the same files."""

import json

import pytest
import torch
from transformers import AutoModel, BitImageProcessorPil, SiglipImageProcessorPil, SiglipVisionModel

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.models.affectgpt import AffectGpt, write_miniature

CPU = Placement(torch.device("cpu"), torch.float32)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
"""Float32 of values up to 20; both sides sum in another order."""


def miniature(folder, **repos):
    return write_miniature(folder, 0, "checkpoint_000030_loss_0.pth", repos)


@pytest.fixture
def frames():
    stream = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8, generator=stream)


@pytest.fixture
def sound():
    return torch.randn(2, 32000, generator=torch.Generator().manual_seed(2))


def test_dinov2_is_the_mean_over_the_last_hidden_state(tmp_path, frames):
    parts = miniature(tmp_path, clip="facebook/dinov2-large")
    processor = BitImageProcessorPil(
        do_resize=True,
        size={"shortest_edge": 256},
        resample=3,
        crop_size={"height": 224, "width": 224},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    pixels = processor(images=list(frames.numpy()), return_tensors="pt").pixel_values
    theirs = AutoModel.from_pretrained(parts["clip"], dtype=torch.float32).eval()
    with torch.inference_mode():
        states = theirs(pixels, output_hidden_states=True).hidden_states
        seen = AffectGpt.load(**parts, placement=CPU).see(frames)
    assert seen.shape == (2, 40)
    torch.testing.assert_close(seen, states[-1].mean(dim=1), **CLOSE)


def test_siglip_is_the_mean_over_the_last_hidden_state(tmp_path, frames):
    parts = miniature(tmp_path, clip="google/siglip-so400m-patch14-384")
    processor = SiglipImageProcessorPil(size={"height": 56, "width": 56}, resample=3)
    pixels = processor(images=list(frames.numpy()), return_tensors="pt").pixel_values
    theirs = SiglipVisionModel.from_pretrained(parts["clip"], dtype=torch.float32).eval()
    with torch.inference_mode():
        states = theirs(pixels, output_hidden_states=True).hidden_states
        seen = AffectGpt.load(**parts, placement=CPU).see(frames)
    assert seen.shape == (2, 32)
    torch.testing.assert_close(seen, states[-1].mean(dim=1), **CLOSE)


@pytest.mark.parametrize("repo", ["microsoft/wavlm-large", "facebook/data2vec-audio-base-960h"])
def test_sound_is_the_mean_over_the_last_four_layers(tmp_path, repo, sound):
    parts = miniature(tmp_path, hubert=repo)
    theirs = AutoModel.from_pretrained(parts["hubert"], dtype=torch.float32).eval()
    with torch.inference_mode():
        states = theirs(sound, output_hidden_states=True).hidden_states[-4:]
        heard = AffectGpt.load(**parts, placement=CPU).hear(sound)
    assert theirs.config.model_type in repo
    torch.testing.assert_close(heard, torch.stack(states).mean(dim=0).mean(dim=1), **CLOSE)


def test_llama_takes_the_place_of_qwen(tmp_path):
    parts = miniature(tmp_path, llm="meta-llama/Meta-Llama-3-8B-Instruct")
    model = AffectGpt.load(**parts, placement=CPU)
    assert model.llm.config.model_type == "llama"
    assert model.llm.model.layers[0].self_attn.q_proj.bias is None


@pytest.mark.parametrize(
    ("part", "file", "content", "said"),
    [
        ("clip", "config.json", {"model_type": "vit"}, "a vit, and AffectGPT takes clip, dinov2"),
        ("hubert", "config.json", {"model_type": "whisper"}, "takes hubert, wavlm, data2vec-audio"),
        ("llm", "config.json", {"model_type": "baichuan"}, "takes qwen2, llama there"),
        ("hubert", "preprocessor_config.json", {"do_normalize": False}, "do_normalize=false"),
    ],
)
def test_a_part_of_another_kind_is_named(tmp_path, part, file, content, said):
    parts = miniature(tmp_path)
    (parts[part] / file).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CheckpointError, match=said):
        AffectGpt.load(**parts, placement=CPU)
