"""SALMONN's modules and its published files, on a miniature. (Golden data pin the numbers.)"""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.models.salmonn import Salmonn, preprocess, read_sizes, write_miniature
from tests.baselines.tensors import rewrite

CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("salmonn"), seed=0)


@pytest.fixture(scope="module")
def model(published):
    return Salmonn.load(**published, heads=12, placement=CPU)


def noise(seconds: float) -> np.ndarray:
    return 0.1 * np.random.default_rng(1).normal(size=round(16000 * seconds))


def test_the_same_seed_writes_the_same_weights(published, tmp_path):
    again = write_miniature(tmp_path / "again", seed=0)
    other = write_miniature(tmp_path / "other", seed=1)
    tensors = [
        torch.load(parts["connector"], weights_only=True)["model"]
        for parts in (published, again, other)
    ]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0])
    assert not torch.equal(tensors[0]["speech_query_tokens"], tensors[2]["speech_query_tokens"])


def test_sizes_of_the_published_model(published):
    sizes = read_sizes(published["llm"], published["whisper"])
    assert (sizes.context, sizes.positions, sizes.mel_bins) == (4096, 88, 80)


@pytest.mark.parametrize("seconds", [0.175, 2.0, 30.0])
def test_every_sound_takes_88_positions(model, seconds):
    with torch.inference_mode():
        mel, fbank = preprocess(noise(seconds))
        windows, vectors = model.hear(mel, fbank), model.encode(mel, fbank)
    assert mel.shape == (80, 3000)
    assert windows.shape == (88, 17, 64)
    assert vectors.shape == (88, 32)
    heard = 8 * (len(fbank) // 16)
    silence = windows.flatten(0, 1)[heard:, 32:]
    assert heard == 1496 or not silence.any()  # BEATs' half, after the norm
    assert windows.flatten(0, 1)[:heard, 32:].any(dim=1).all()
    assert windows[..., :32].any(dim=-1).all()  # Whisper hears the silence too


def test_low_rank_adapters_are_merged(model, published):
    base = {}
    for shard in sorted(published["llm"].glob("pytorch_model-*.bin")):
        base |= torch.load(shard, weights_only=True)
    trained = torch.load(published["connector"], weights_only=True)["model"]
    for name in ("q_proj", "k_proj", "v_proj"):
        key = f"model.layers.1.self_attn.{name}"
        lora = f"llama_model.base_model.model.{key}.lora_{{}}.default.weight"
        expected = base[f"{key}.weight"].float()
        if name != "k_proj":
            scale = 32 / len(trained[lora.format("A")])
            expected = expected + scale * trained[lora.format("B")] @ trained[lora.format("A")]
        merged = model.llm.get_parameter(f"{key}.weight")
        torch.testing.assert_close(merged, expected, rtol=1e-6, atol=1e-7)


def test_half_precision_is_loaded_as_such(published):
    model = Salmonn.load(**published, heads=12, placement=Placement(CPU.device, torch.bfloat16))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    with torch.inference_mode():
        assert model.encode(*preprocess(noise(1))).isfinite().all()


def test_a_lost_adapter_is_named(copied):
    lost = "llama_model.base_model.model.model.layers.1.self_attn.v_proj.lora_A.default.weight"
    rewrite(copied["connector"], lambda tensors: tensors.pop(lost))
    with pytest.raises(CheckpointError, match=r"layers\.1\.self_attn\.v_proj\.lora_A"):
        Salmonn.load(**copied, heads=12, placement=CPU)


def test_every_lost_or_unknown_tensor_is_named(copied):
    connector = "speech_Qformer.bert.encoder.layer.1.output_query.dense.bias"
    rewrite(copied["connector"], lambda tensors: tensors.pop(connector))
    with pytest.raises(CheckpointError, match=r"layer\.1\.output_query\.dense\.bias"):
        Salmonn.load(**copied, heads=12, placement=CPU)
    rewrite(copied["connector"], lambda tensors: tensors.update({connector: torch.zeros(48)}))
    rewrite(copied["beats"], lambda tensors: tensors.update(extra=torch.zeros(1)))
    with pytest.raises(CheckpointError, match="extra"):
        Salmonn.load(**copied, heads=12, placement=CPU)
    rewrite(copied["beats"], lambda tensors: tensors.pop("extra"))
    whisper = copied["whisper"] / "model.safetensors"
    save_file({k: v for k, v in load_file(whisper).items() if "conv2.bias" not in k}, whisper)
    with pytest.raises(CheckpointError, match=r"conv2\.bias"):
        Salmonn.load(**copied, heads=12, placement=CPU)


def test_text_halves_and_buffers_are_left_out(copied):
    unused = {
        "speech_Qformer.bert.embeddings.word_embeddings.weight": torch.zeros(9, 48),
        "speech_Qformer.bert.encoder.layer.0.intermediate.dense.weight": torch.zeros(64, 48),
        "speech_Qformer.bert.encoder.layer.1.output.LayerNorm.bias": torch.zeros(48),
        "speech_Qformer.cls.predictions.bias": torch.zeros(9),
        "llama_model.base_model.model.model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8),
    }
    rewrite(copied["connector"], lambda tensors: tensors.update(unused))
    rewrite(copied["beats"], lambda tensors: tensors.update({"predictor.bias": torch.zeros(3)}))
    Salmonn.load(**copied, heads=12, placement=CPU)


def test_parts_of_another_model_are_distinguished(copied):
    swapped = copied | {"connector": copied["beats"], "beats": copied["connector"]}
    with pytest.raises(CheckpointError, match="cfg"):
        Salmonn.load(**swapped, heads=12, placement=CPU)
    copied["connector"].write_bytes(copied["connector"].read_bytes()[:-4000])
    with pytest.raises(CheckpointError, match="half downloaded"):
        Salmonn.load(**copied, heads=12, placement=CPU)
