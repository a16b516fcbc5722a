"""Ports at their published sizes, without data: what each part counts, and the shapes that pass.

Expected counts are those of the published files: bytes by the number's width, without what a
training script keeps beside the weights.
"""

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    CLIPVisionConfig,
    HubertConfig,
    LlamaForCausalLM,
    Qwen2Config,
    SiglipVisionConfig,
)
from transformers import WhisperConfig as Whisper

from ovmer.baselines.layers.beats import BeatsConfig
from ovmer.baselines.layers.eva_vit import EvaVit
from ovmer.baselines.layers.imagebind import ImageBindConfig
from ovmer.baselines.layers.qformer import QFormer, QFormerConfig
from ovmer.baselines.llama import llama_config
from ovmer.baselines.models.affectgpt import AffectGpt
from ovmer.baselines.models.emotion_llama import EmotionLlama
from ovmer.baselines.models.humanomni import HumanOmni
from ovmer.baselines.models.humanomni_config import HumanOmniConfig
from ovmer.baselines.models.pandagpt import PandaGpt
from ovmer.baselines.models.salmonn import Salmonn
from ovmer.baselines.models.video_llama import AudioBranch, VideoLlama, VisionBranch
from ovmer.baselines.models.video_llava import VideoLlava
from ovmer.baselines.weights import weightless

LLAMA = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
}  # fmt: skip
CLIP_L = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "image_size": 224, "patch_size": 14, "layer_norm_eps": 1e-5,
}  # fmt: skip
TOWER = CLIP_L | {"hidden_act": "gelu", "add_time_attn": True, "num_frames": 8}
VICUNA_BYTES = 13_476_831_232
"""Of the LLaMA 7B of 32000 words in half precision (index of lmsys/vicuna-7b-delta-v0)."""


def count(parts: Iterable[nn.Module | nn.Parameter]) -> int:
    each = (p if isinstance(p, nn.Module) else nn.ParameterList([p]) for p in parts)
    return sum(parameter.numel() for part in each for parameter in part.parameters())


def lora(llm: nn.Module, rank: int, names: Iterable[str]) -> int:
    """What low-rank adapters of the linear layers of these names count."""
    return sum(
        rank * (module.in_features + module.out_features)
        for name, module in llm.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in names
    )


def meta(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def eva(layers: int) -> EvaVit:
    from transformers import Blip2VisionConfig

    return EvaVit(
        Blip2VisionConfig(
            hidden_size=1408, num_hidden_layers=layers, num_attention_heads=16,
            intermediate_size=6144, patch_size=14, image_size=224, qkv_bias=True,
        )
    )  # fmt: skip


def test_llama_7b() -> None:
    with weightless():
        llm = LlamaForCausalLM(llama_config(LLAMA))
        deltas = LlamaForCausalLM(llama_config(LLAMA | {"vocab_size": 32001}))
    assert 2 * count([llm]) == VICUNA_BYTES
    assert 2 * count([deltas]) == VICUNA_BYTES + 2 * 8192


def test_eva_and_its_qformer() -> None:
    with weightless():
        tower, qformer = eva(40), QFormer(QFormerConfig(encoder_width=1408))
    assert 2 * count([tower]) == pytest.approx(2_022_286_592, rel=1e-3)
    rest = 32 * 768 + 2 * 1408 + 768 * 4096 + 4096  # queries, norm, and the way into Flan-T5
    assert 4 * (count([qformer]) + rest) == pytest.approx(413.19 * 2**20, rel=1e-3)


def test_salmonn() -> None:
    with weightless():
        model = Salmonn(
            Whisper(
                d_model=1280, encoder_layers=32, encoder_attention_heads=20, encoder_ffn_dim=5120
            ),
            BeatsConfig(),
            QFormerConfig(encoder_width=2048, layers=2, cross_attention_every=1),
            llama_config(LLAMA),
        )
    trained = [model.qformer, model.queries, model.projector, model.ln_speech, model.ln_audio]
    adapters = lora(model.llm, 8, ("q_proj", "v_proj"))
    assert count(trained) + adapters == pytest.approx(30.19e6, rel=1e-3)


def test_video_llava() -> None:
    with weightless():
        model = VideoLlava({**LLAMA, "mm_vision_select_layer": -1}, {"vision_config": TOWER})
    assert count([model.projector]) == 20_979_712
    assert count([model.tower]) == pytest.approx(404_187_136, rel=1e-3)
    image_tower = 303_179_776
    whole = count([model.llm, model.projector, model.tower]) + image_tower
    assert 2 * whole == pytest.approx(14_933_716_280, rel=1e-3)
    with torch.inference_mode():
        assert model.to("meta").encode(meta(8, 3, 224, 224)).shape == (8, 257, 4096)


def test_pandagpt() -> None:
    towers = (ImageBindConfig(16, 1280, 32, 5120, 1024), ImageBindConfig(12, 768, 12, 3072, 1024))
    with weightless():
        model = PandaGpt(*towers, llama_config(LLAMA))
    adapters = lora(model.llm, 32, ("q_proj", "k_proj", "v_proj", "o_proj"))
    assert 2 * (count([model.projector]) + adapters) == pytest.approx(75.506e6, rel=1e-3)
    with torch.inference_mode():
        model.to("meta")
        assert model.see(meta(15, 3, 2, 224, 224)).shape == (1, 1024)
        assert model.hear(meta(3, 1, 128, 204)).shape == (1, 1024)


def test_video_llama() -> None:
    each = QFormerConfig(encoder_width=1408)
    over = QFormerConfig(encoder_width=768, layers=2, cross_attention_every=1)
    listener = QFormerConfig(encoder_width=1024, layers=2, cross_attention_every=1)
    with weightless():
        vision = eva(39)
        config = vision.layers[0].self_attn.config
        seeing = VisionBranch(config, (each, 32), (over, 32), 32, 4096)
        hearing = AudioBranch(ImageBindConfig(12, 768, 12, 3072, 1024), listener, 8, 8, 4096)
        model = VideoLlama(seeing, hearing, llama_config(LLAMA))
    own = [seeing.video_qformer, seeing.video_queries, seeing.positions, seeing.projector]
    assert count(own) == pytest.approx(22_104_064, rel=1e-3)
    heard = [hearing.qformer, hearing.queries, hearing.positions, hearing.projector]
    assert count(heard) == pytest.approx(22_855_680, rel=1e-3)
    with torch.inference_mode():
        model.to("meta")
        assert seeing.projector(
            seeing.video_qformer(seeing.video_queries, meta(1, 256, 768))
        ).shape == (1, 32, 4096)


def test_affectgpt() -> None:
    qwen = Qwen2Config(
        vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28,
        num_attention_heads=28, num_key_value_heads=4,
    )  # fmt: skip
    hubert = HubertConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
        feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True,
    )  # fmt: skip
    with weightless():
        model = AffectGpt(CLIPVisionConfig(**CLIP_L, projection_dim=768), hubert, qwen)
    names = [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")]
    assert lora(model.llm, 16, names) == 40_370_176
    assert count([model.video, model.audio, model.multi]) == 14_042_372
    assert 2 * count([model.llm]) == pytest.approx(15.23e9, rel=1e-3)


def test_emotion_llama() -> None:
    vision = eva(39).layers[0].self_attn.config
    vision.image_size = 448
    with weightless():
        model = EmotionLlama(vision, 1024, llama_config(LLAMA), None)
    assert lora(model.llm, 64, ("q_proj", "v_proj")) == 33_554_432  # as a user's log prints it
    connector = [model.image, model.face, model.video, model.sound, model.whole]
    assert len([each for part in connector for each in part.parameters()]) == 10
    assert count(connector) == 5632 * 4096 + 3 * 1024 * 4096 + 1408 * 4096 + 5 * 4096
    with torch.inference_mode():
        model.to("meta")
        assert model.connect(meta(1025, 1408), meta(3, 1024)).shape == (260, 4096)


@pytest.mark.parametrize(
    ("projector", "llm", "siglip", "connector", "way_in", "seen"),
    [
        (
            "all_in_one_small",
            {"vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
             "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2},
            {},  # the defaults are siglip-base-patch16-224
            34.8e6,
            1.95e6,
            (8, 392),
        ),
        (
            "all_in_one",
            {"vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944,
             "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4},
            {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
             "num_attention_heads": 16, "image_size": 384, "patch_size": 14},
            770.8e6,
            17.4e6,
            (32, 3136),
        ),
    ],
)  # fmt: skip
def test_humanomni(projector, llm, siglip, connector, way_in, seen) -> None:
    whisper = Whisper(
        num_mel_bins=128, d_model=1280, encoder_layers=32, encoder_attention_heads=20,
        encoder_ffn_dim=5120,
    )  # fmt: skip
    eye, (frames, vectors) = SiglipVisionConfig(**siglip), seen
    config = HumanOmniConfig(
        projector=projector, vision_tower="siglip", audio_tower="whisper",
        vision_width=eye.hidden_size, audio_width=1280, vision_layer=-2, frames=frames,
        has_tags=True, is_tied=True, llm={**llm, "rope_theta": 1e6},
    )  # fmt: skip
    with weightless():
        model = HumanOmni(config, eye, whisper, BertConfig(), compresses=projector == "all_in_one")
    assert count([model.projector]) == pytest.approx(connector, abs=0.05e6)
    assert count([model.audio_projector]) == pytest.approx(way_in, abs=0.05e6)
    side = eye.image_size
    with torch.inference_mode():
        model.to("meta")
        patches = model.see(torch.empty(frames, side, side, 3, dtype=torch.uint8, device="meta"))
        assert model.fuse(patches, meta(3)).shape == (vectors, llm["hidden_size"])
        assert model.audio_projector(model.hear(meta(128, 3000))).shape[0] == 500
