"""VideoChat's modules and its published files, on a miniature. (Golden data pin the numbers.)"""

import pickle
import sys
from types import ModuleType

import pytest
import torch

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.models.videochat import VideoChat, read_sizes, write_miniature
from ovmer.baselines.prompt_sizes import PromptSizes
from tests.baselines.tensors import frames, rewrite

CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("videochat"), seed=0)


@pytest.fixture(scope="module")
def model(published):
    return VideoChat.load(**published, placement=CPU)


def test_sizes_of_the_published_model(published):
    assert read_sizes(**published) == PromptSizes(2048, positions=96, image=224)


@pytest.mark.parametrize("count", [1, 8])
def test_every_video_takes_96_positions(model, count):
    with torch.inference_mode():
        assert model.encode(frames(count)).shape == (96, 32)


def test_the_videos_token_looks_and_is_not_seen(model):
    pixels = torch.randn(3, 3, 224, 224)
    with torch.inference_mode():
        plain = model.encoder.vit(pixels)
        tokens = model.encoder(pixels)[0]
        backwards = model.encoder(pixels.flip(0))[0]
    assert torch.equal(tokens[:-1], plain.flatten(0, 1))
    # Its convolution reaches across frames, so their order counts.
    assert not torch.allclose(tokens[-1], backwards[-1], rtol=1e-3)
    assert torch.allclose(tokens[:257], backwards[-258:-1], rtol=1e-4, atol=1e-5)


def test_the_norm_is_the_one_that_was_trained_further(model, published):
    trained = torch.load(published["trained"], weights_only=True)["model"]
    assert torch.equal(model.ln_vision.weight, trained["ln_vision.weight"].float())
    assert model.ln_vision.weight.any()  # BLIP-2's own is zero in the miniature


def test_the_norm_may_be_blip2s(copied):
    rewrite(
        copied["trained"], lambda held: (held.pop("ln_vision.weight"), held.pop("ln_vision.bias"))
    )
    assert not VideoChat.load(**copied, placement=CPU).ln_vision.weight.any()


def test_what_is_known_and_unused_is_left_out(copied):
    rewrite(
        copied["qformer"],
        lambda held: held.update(
            {
                "t5_proj.weight": torch.zeros(3, 48),
                "Qformer.cls.predictions.bias": torch.zeros(9),
                "Qformer.bert.embeddings.word_embeddings.weight": torch.zeros(9, 48),
                "Qformer.bert.encoder.layer.0.intermediate.dense.weight": torch.zeros(64, 48),
            }
        ),
    )
    rewrite(
        copied["trained"],
        lambda held: held.update(
            {
                "Qformer.bert.embeddings.position_ids": torch.arange(512)[None],
                "llama_model.model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8),
            }
        ),
    )
    VideoChat.load(**copied, placement=CPU)


def test_settings_beside_the_weights_are_no_obstacle(copied, monkeypatch):
    """The training script saves its configuration in a dictionary of a class of its own."""
    module = ModuleType("utils.easydict")
    module.EasyDict = type("EasyDict", (dict,), {"__module__": module.__name__})
    monkeypatch.setitem(sys.modules, "utils", ModuleType("utils"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    settings = module.EasyDict(lr=1e-4, model=module.EasyDict(name="videochat"))
    settings.lr = 1e-4
    content = torch.load(copied["trained"], weights_only=True)
    torch.save(content | {"config": settings, "epoch": 2}, copied["trained"])
    assert VideoChat.load(**copied, placement=CPU).extra_queries.shape == (1, 64, 48)


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_code_beside_the_weights_is_not_executed(copied, capsys):
    assert pickle.loads(pickle.dumps(Evil())) is None
    assert capsys.readouterr().out == "executed\n"
    content = torch.load(copied["trained"], weights_only=True)
    torch.save(content | {"config": Evil()}, copied["trained"])
    VideoChat.load(**copied, placement=CPU)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("part", "lost"),
    [
        ("qformer", "Qformer.bert.encoder.layer.1.output_query.dense.bias"),
        ("trained", "visual_encoder.gmhra.1.attn.in_proj_bias"),
        ("trained", "visual_encoder.gmhra_cls_token"),
        ("trained", "llama_proj.bias"),
    ],
)
def test_a_lost_tensor_is_named(copied, part, lost):
    rewrite(copied[part], lambda held: held.pop(lost))
    with pytest.raises(CheckpointError, match="VideoChat needs"):
        VideoChat.load(**copied, placement=CPU)


def test_lost_queries_are_named(copied):
    rewrite(copied["trained"], lambda held: held.pop("extra_query_tokens"))
    with pytest.raises(CheckpointError, match="no extra_queries of the Q-Former"):
        VideoChat.load(**copied, placement=CPU)


def test_parts_of_another_model_are_distinguished(copied):
    with pytest.raises(CheckpointError, match="is no EVA-ViT"):
        VideoChat.load(**copied | {"vision": copied["trained"]}, placement=CPU)
    with pytest.raises(CheckpointError, match="has no extra_queries of the Q-Former"):
        VideoChat.load(**copied | {"trained": copied["vision"]}, placement=CPU)
    rewrite(copied["trained"], lambda held: held.update(audio_proj=torch.ones(1)))
    with pytest.raises(CheckpointError, match="audio_proj"):
        VideoChat.load(**copied, placement=CPU)
