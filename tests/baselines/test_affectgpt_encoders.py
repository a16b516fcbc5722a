"""The frozen parts of the paper's Figure 4, against transformers' own reading of the same files."""

import json

import pytest
import torch
from transformers import AutoModel, BitImageProcessorPil, SiglipImageProcessorPil, SiglipVisionModel

from ovmer.baselines.checkpoint import CheckpointPart
from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.layers.clip_vision import normalise
from ovmer.baselines.layers.eva_vit import EVA_FILE
from ovmer.baselines.layers.imagebind import IMAGEBIND_FILE, mel_pictures
from ovmer.baselines.layers.qformer import BLIP2_FILE
from ovmer.baselines.models.affectgpt import AffectGpt, preprocess
from ovmer.baselines.models.affectgpt_encoders import sound_input
from ovmer.baselines.models.affectgpt_eva_imagebind import eva_config, random_crop
from ovmer.baselines.models.affectgpt_fusion import QFORMER, FusionConfig, FusionConfigs
from ovmer.baselines.models.affectgpt_miniature import write_miniature
from ovmer.baselines.models.video_llama import VisionBranch
from ovmer.baselines.training.affectgpt import (
    AffectGptDesign,
    AffectGptInTraining,
    FrozenPrecision,
    TrainingInputs,
)

CPU = Placement(torch.device("cpu"), torch.float32)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
"""Float32 of values up to 20; both sides sum in another order."""


def miniature(folder, **sources):
    """`sources`: a part's repository, or the part."""
    asked = {
        n: CheckpointPart(each) if isinstance(each, str) else each for n, each in sources.items()
    }
    return write_miniature(folder, 0, "checkpoint_000030_loss_0.pth", asked)


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


EVA = CheckpointPart(folder="LAVIS/BLIP2", files=[EVA_FILE, BLIP2_FILE])
IMAGEBIND = CheckpointPart("someone/imagebind", files=[IMAGEBIND_FILE])


def test_eva_clip_is_the_mean_of_what_the_q_former_reads(tmp_path, frames):
    parts = miniature(tmp_path, clip=EVA)
    model = AffectGpt.load(**parts, placement=CPU)
    config = eva_config(parts["clip"])
    assert config.queries == 32
    branch = VisionBranch(config.vision, (config.qformer, 32), (config.qformer, 1), 8, 4).eval()
    branch.load_state_dict(model.clip.state_dict(), strict=False)
    with torch.inference_mode():
        states = branch.ln_vision(branch.vit(normalise(frames)))
        found = branch.qformer(branch.queries, states)
        seen = model.see(frames)
    assert seen.shape == (2, 48)
    torch.testing.assert_close(seen, found.mean(dim=1), **CLOSE)


def test_a_q_former_cannot_read_the_mean_of_eva_clip(tmp_path):
    parts = miniature(tmp_path, clip=EVA)
    design = AffectGptDesign(FusionConfigs(multi=FusionConfig(QFORMER, 2)))
    with pytest.raises(CheckpointError, match=r"set train\.fusion\.video and .* to attention"):
        AffectGptInTraining.build(parts, CPU.device, FrozenPrecision(), design)


def test_imagebind_hears_spectrograms_at_its_own_scale(tmp_path, sound):
    parts = miniature(tmp_path, hubert=IMAGEBIND)
    stretches = preprocess(sound.numpy(), sound_input(parts["hubert"]))
    model = AffectGpt.load(**parts, placement=CPU)
    with torch.inference_mode():
        heard = model.hear(stretches)
    assert stretches.shape == (2, 1, 128, 204)
    centred = sound - sound.mean(dim=1, keepdim=True)
    assert torch.equal(stretches, mel_pictures(list(centred.numpy())))
    torch.testing.assert_close(heard.norm(dim=1), model.hubert.scale.expand(2), **CLOSE)


@pytest.mark.parametrize("part", ["clip", "hubert"])
def test_in_training_eva_clip_and_imagebind_are_noisy_unless_told_otherwise(tmp_path, part, frames):
    parts = miniature(tmp_path, **{part: EVA if part == "clip" else IMAGEBIND})
    media = {"face": frames, "audio": torch.randn(8, 32000)}
    clip = TrainingInputs([[1], [2], [3]], ("audio", "face"), media)
    kind = {"clip": "face", "hubert": "audio"}[part]

    def encoded(*, noisy):
        design = AffectGptDesign(encoders_in_train_mode=noisy)
        torch.manual_seed(0)
        model = AffectGptInTraining.build(parts, CPU.device, FrozenPrecision(), design).train()
        if not noisy:
            model.hubert.eval()
        return [model.encode([clip])[0][kind] for _ in range(4)]

    first, *others = encoded(noisy=True)
    assert any(not torch.equal(first, other) for other in others)
    first, *others = encoded(noisy=False)
    assert all(torch.equal(first, other) for other in others)


def test_a_random_crop_is_a_part_of_half_the_picture_at_least():
    rows = torch.arange(224, dtype=torch.uint8)[:, None].expand(224, 224)
    frames = torch.stack([rows, rows.T, torch.zeros_like(rows)], dim=-1).expand(3, -1, -1, -1)
    torch.manual_seed(0)
    for _ in range(20):
        crop = random_crop(frames)[..., 8:-8, 8:-8, :].float()
        assert torch.equal(crop[0], crop[2])
        height, width = (crop[0, ..., n].amax() - crop[0, ..., n].amin() for n in range(2))
        assert (height / 208) * (width / 208) > 0.47
        assert 0.7 < width / height < 1.45


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
