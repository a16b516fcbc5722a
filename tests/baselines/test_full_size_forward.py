"""The other ports at their published sizes, without data: counts, and shapes from clip to logits.

Expected counts are those of public files, as exactly as they are known: of LLaMA 7B and of the
towers to the byte, of whole files as the hub's pages round them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, HubertConfig

from ovmer.baselines.layers.qformer import QFormerConfig
from ovmer.baselines.layers.umt_vit import UmtConfig
from ovmer.baselines.llama import llama_config
from ovmer.baselines.models import (
    chat_univi,
    llama_vid,
    mplug_owl,
    onellm,
    otter,
    qwen_audio,
    secap,
    video_chatgpt,
    videochat,
    videochat2,
)
from ovmer.baselines.weights import weightless
from tests.baselines.test_full_size import CLIP_L, LLAMA, VICUNA_BYTES, count, eva, lora, meta

CLIP = CLIPVisionConfig(**CLIP_L, hidden_act="quick_gelu")
CLIP_BYTES = 2 * 303_179_776
"""Of ViT-L/14 at 224 px in half precision, its last norm included (Video-LLaVA's files)."""
ROW = 2 * 4096
TEXTS = ([1, 2, 3], [4, 5])
ABSTRACTOR = {
    "hidden_size": 1024, "encoder_hidden_size": 1024, "intermediate_size": 4096,
    "num_attention_heads": 16, "num_hidden_layers": 6, "layer_norm_eps": 1e-6,
}  # fmt: skip
CLUSTERS = {f"spatial_cluster_rate{i}": n for i, n in enumerate((64, 32, 16))}
AUDIO = {"n_state": 1280, "n_head": 20, "n_layer": 32, "n_mels": 80, "n_ctx": 1500}
EARS = HubertConfig(
    hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
    feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True,
)  # fmt: skip


def frames(number: int, side: int = 224) -> Tensor:
    return torch.empty(number, side, side, 3, dtype=torch.uint8, device="meta")


def logits(model: nn.Module, inputs: Any) -> Sequence[int]:
    """The shape of what a clip's prompt comes to: positions x words."""
    model.to("meta").eval()
    with torch.inference_mode():
        return said(model.llm, inputs_embeds=model.embed(inputs)[None])


def said(llm: nn.Module, **given: Tensor) -> Sequence[int]:
    """The same for what a language model is given, which is not looked at: there is no data."""
    length = next(iter(given.values())).shape[1]
    everywhere = torch.empty(1, 1, length, length, dtype=torch.bool, device="meta")
    found = llm(**given, attention_mask=everywhere, use_cache=False).logits
    return list(found.shape[1:])


def built(make: Callable[[], nn.Module]) -> Any:
    with weightless():
        return make()


def test_video_chatgpt() -> None:
    model = built(lambda: video_chatgpt.VideoChatGpt(LLAMA | {"vocab_size": 32006}, CLIP))
    assert 2 * count([model.llm]) == VICUNA_BYTES + 6 * 2 * ROW
    # video_chatgpt-7B.bin, of which public notes say "about 270 MB": the words and the projector.
    assert 32006 * ROW + 2 * count([model.projector]) == pytest.approx(270e6, rel=5e-3)
    inputs = video_chatgpt.VideoChatGptInputs(TEXTS, frames(100))
    assert logits(model, inputs) == [5 + 2 + 356, 32006]  # a start and an end


def test_chat_univi() -> None:
    config = LLAMA | {
        "mm_vision_select_layer": -2, "config": CLUSTERS | {"temporal_cluster_rate": 1 / 16},
    }  # fmt: skip
    model = built(lambda: chat_univi.ChatUniVi(config, CLIP))
    assert 2 * count([model.llm]) == VICUNA_BYTES
    assert count([model.projector]) == 1024 * 4096 + 4096
    model.to("meta")
    with torch.inference_mode():  # which frame is in which event hangs on the data
        assert model.tower(meta(8, 3, 224, 224)).shape == (8, 257, 1024)
        assert model.projector(meta(112, 1024)).shape == (112, 4096)
        assert said(model.llm, inputs_embeds=meta(1, 120, 4096)) == [120, 32000]


def test_llama_vid() -> None:
    qformer = QFormerConfig(encoder_width=1408, vocabulary=30523)
    vision = built(lambda: eva(39)).layers[0].self_attn.config
    model = built(lambda: llama_vid.LlamaVid(vision, qformer, 32, llama_config(LLAMA)))
    assert 2 * count([model.llm]) == VICUNA_BYTES
    block = count([model.tower.layers[0]])
    assert 2 * (count([model.tower]) + block) == pytest.approx(2_022_286_592, rel=1e-3)
    inputs = llama_vid.LlamaVidInputs(TEXTS, [101, 102], frames(12))
    assert logits(model, inputs) == [5 + 2 * 12, 32000]


def test_mplug_owl() -> None:
    config = {
        "text_config": LLAMA, "visual_abstractor_config": ABSTRACTOR, "num_query_tokens": 64,
    }  # fmt: skip
    vision = CLIPVisionConfig(**CLIP_L | {"layer_norm_eps": 1e-6}, hidden_act="quick_gelu")
    model = built(lambda: mplug_owl.MplugOwl(config, vision))
    assert 2 * count([model.llm]) == VICUNA_BYTES
    temporal = sum(count([layer.temporal]) for layer in model.tower.layers)
    assert 2 * (count([model.tower]) - temporal) == CLIP_BYTES
    assert count([model]) == pytest.approx(7.2e9, rel=1e-2)
    assert logits(model, mplug_owl.MplugOwlInputs(TEXTS, frames(4))) == [5 + 65, 32000]


def test_otter() -> None:
    config = {
        "text_config": LLAMA | {"vocab_size": 32004},
        "cross_attn_every_n_layers": 4, "max_num_frames": 128,
    }  # fmt: skip
    model = built(lambda: otter.Otter(config, CLIP, 6, 32001))
    gates = sum(count([each.gated]) for each in model.llm.model.layers if each.gated is not None)
    assert 2 * (count([model.llm]) - gates) == VICUNA_BYTES + 4 * 2 * ROW
    assert count([model]) == pytest.approx(8.2e9, rel=1e-2)
    model.to("meta").eval()
    with torch.inference_mode():
        assert model.encode(frames(16)).shape == (64, 1024)
        ids = torch.ones(1, 9, dtype=torch.long, device="meta")
        seen = {"media": meta(1, 64, 1024), "looking": ids > 0}
        assert said(model.llm, input_ids=ids, **seen) == [9, 32004]


def test_videochat() -> None:
    vision = built(lambda: eva(39)).layers[0].self_attn.config
    qformer = QFormerConfig(encoder_width=1408)
    words = llama_config(LLAMA | {"vocab_size": 32001})
    model = built(lambda: videochat.VideoChat(vision, 8, qformer, (32, 64), words))
    assert 2 * count([model.llm]) == VICUNA_BYTES + 2 * ROW
    tower = count([model.encoder.vit]) + count([model.encoder.vit.layers[0]])
    assert 2 * tower == pytest.approx(2_022_286_592, rel=1e-3)
    flan = 768 * 4096 + 4096  # in the place of our projector, and with none of the extra queries
    first = [model.qformer, model.queries, model.ln_vision]
    assert 4 * (count(first) + flan) == pytest.approx(413.19 * 2**20, rel=1e-3)
    assert logits(model, videochat.VideoChatInputs(TEXTS, frames(8))) == [5 + 96, 32001]


def test_videochat2() -> None:
    qformer = QFormerConfig(encoder_width=1024, vocabulary=30523)
    words = llama_config(LLAMA | {"vocab_size": 32001})
    model = built(lambda: videochat2.VideoChat2(UmtConfig(), qformer, words))
    assert 2 * count([model.llm]) == VICUNA_BYTES + 2 * ROW
    block = 12 * 1024**2 + 13 * 1024 - 1024  # a ViT-L block, without a bias of the keys
    assert count(model.tower.blocks) == 23 * block
    assert lora(model.llm, 16, ("q_proj", "v_proj")) == 2 * 32 * 16 * 8192
    assert logits(model, videochat.VideoChatInputs(TEXTS, frames(8))) == [5 + 96, 32001]


def test_onellm() -> None:
    config = onellm.OneLlmConfig(
        CLIP, experts=3, blocks=8, expert_ffn=2816, router_ffn=4096, llm=llama_config(LLAMA)
    )
    model = built(lambda: onellm.OneLlm(config))
    assert 2 * count([model.llm]) == VICUNA_BYTES
    # The file has eight senses, of which two are built; the tower's projection is not used.
    others = 6 * count([model.senses["audio"]]) + 1024 * 768
    others += 15724 * 8192  # the way in of fMRI, next to which point clouds and IMU are small
    assert 2 * (count([model]) + others) == pytest.approx(15.2e9, rel=1e-2)
    assert logits(model, onellm.OneLlmInputs(TEXTS, "audio", meta(1, 128, 1024)))[1] == 32000
    assert logits(model, onellm.OneLlmInputs(TEXTS, "video", meta(15, 3, 224, 224)))[1] == 32000


def test_secap() -> None:
    words = llama_config(LLAMA | {"vocab_size": 49954})
    model = built(lambda: secap.Secap(EARS, QFormerConfig(encoder_width=768), words, 32))
    assert 2 * count([model.llm]) == VICUNA_BYTES + 17_954 * 2 * ROW
    assert count([model.hubert]) == pytest.approx(317e6, rel=5e-3)  # HuBERT Large, its paper
    words_in_file = 2 * count([model.llm]) + 4 * (count([model]) - count([model.llm]))
    similar = 4 * 118e6  # text2vec, a BERT of 21128 words and its heads
    assert words_in_file + similar == pytest.approx(15 * 2**30, rel=2e-2)  # "about 15 GB"
    assert logits(model, secap.SecapInputs(TEXTS, meta(16000 * 5))) == [5 + 32, 49954]


def test_qwen_audio() -> None:
    config = {
        "vocab_size": 155947, "hidden_size": 4096, "intermediate_size": 22016,
        "num_hidden_layers": 32, "num_attention_heads": 32, "layer_norm_epsilon": 1e-5,
        "seq_length": 2048, "rotary_emb_base": 10000, "kv_channels": 128,
        "max_position_embeddings": 8192, "audio": AUDIO | {"output_dim": 4096},
    }  # fmt: skip
    model = built(lambda: qwen_audio.QwenAudio(config))
    assert count([model]) == pytest.approx(8.4e9, rel=1e-2)
    encoder = count([model.audio]) - count([model.audio.proj, model.audio.audio_bos_eos_token])
    assert encoder == pytest.approx(637e6, rel=1e-2)  # the encoder of Whisper large, its paper
    inputs = qwen_audio.QwenAudioInputs(TEXTS[0], meta(80, 3000), TEXTS[1])
    assert logits(model, inputs) == [5 + 752, 155947]
