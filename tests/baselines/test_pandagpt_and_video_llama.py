"""Published files of PandaGPT and Video-LLaMA, whole and spoiled, on miniatures.

(Golden data pin the numbers; tests/adapters/test_audio_visual.py has what is asked and answered.)
"""

import shutil
from dataclasses import replace

import pytest
import torch

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.models import pandagpt, video_llama
from ovmer.baselines.models.pandagpt import PandaGpt, PandaGptInputs
from ovmer.baselines.models.video_llama import (
    VideoLlama,
    VideoLlamaInputs,
    VideoLlamaSizes,
    read_sizes,
)

CPU = Placement(torch.device("cpu"), torch.float32)
MEL = torch.randn(8, 1, 128, 204, generator=torch.Generator().manual_seed(1))
FRAMES = torch.randint(0, 256, (5, 224, 224, 3), dtype=torch.uint8)
TEXTS = [[1, 5], [6, 7], [8]]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return {
        module: module.write_miniature(tmp_path_factory.mktemp(module.__name__), seed=0)
        for module in (pandagpt, video_llama)
    }


def copied(parts, folder):
    """A miniature's parts, to be spoiled."""
    shutil.copytree(next(iter(parts.values())).parent, folder / "copy")
    return {name: folder / "copy" / path.name for name, path in parts.items()}


def load_panda(parts, placement=CPU):
    return PandaGpt.load(parts["connector"], parts["llm"], parts["imagebind"], placement)


def load_llama(parts, placement=CPU):
    return VideoLlama.load(**parts, placement=placement)


def rewrite(file, change, inner=None):
    """Apply `change` to the state dict of a torch file."""
    content = torch.load(file, weights_only=True)
    change(content[inner] if inner else content)
    torch.save(content, file)


# -- PandaGPT ------------------------------------------------------------------------------------


def test_low_rank_adapters_are_merged(published):
    parts = published[pandagpt]
    base = {}
    for shard in sorted(parts["llm"].glob("pytorch_model-*.bin")):
        base |= torch.load(shard, weights_only=True)
    trained = torch.load(parts["connector"], weights_only=True)
    merged = load_panda(parts).llm
    for name in "qkvo":
        key = f"model.layers.1.self_attn.{name}_proj"
        lora = f"llama_model.base_model.model.{key}.lora_{{}}.default.weight"
        up, down = (trained[lora.format(side)] for side in "BA")
        expected = base[f"{key}.weight"].float() + 32 / len(down) * up @ down
        torch.testing.assert_close(
            merged.get_parameter(f"{key}.weight"), expected, rtol=1e-6, atol=1e-7
        )


def test_what_is_seen_and_heard_is_summed(published):
    model = load_panda(published[pandagpt])
    views = torch.randn(15, 3, 2, 224, 224)
    with torch.inference_mode():
        seen, heard, both = (
            model.encode(PandaGptInputs(TEXTS[:2], *given))
            for given in ((views, None), (None, MEL[:3]), (views, MEL[:3]))
        )
        assert both.shape == (1, 32)
        torch.testing.assert_close(both, seen + heard)  # the bias counts twice
        assert 0 < model.see(views).norm() < 1  # a mean of vectors of length 1


def test_published_parameters_are_read_although_they_are_no_plain_tensors(published, tmp_path):
    parts = copied(published[pandagpt], tmp_path)
    trained = torch.load(parts["connector"], weights_only=True)
    torch.save({key: torch.nn.Parameter(trained[key]) for key in trained}, parts["connector"])
    load_panda(parts)


def test_a_lost_adapter_of_pandagpt_is_named(published, tmp_path):
    parts = copied(published[pandagpt], tmp_path)
    lost = "llama_model.base_model.model.model.layers.0.self_attn.o_proj.lora_B.default.weight"
    rewrite(parts["connector"], lambda tensors: tensors.pop(lost))
    with pytest.raises(CheckpointError, match=r"layers\.0\.self_attn\.o_proj\.lora_B"):
        load_panda(parts)


def test_a_torn_or_swapped_file_of_pandagpt_is_named(published, tmp_path):
    parts = copied(published[pandagpt], tmp_path)
    with pytest.raises(CheckpointError, match="no vision tower of ImageBind"):
        load_panda(parts | {"imagebind": parts["connector"]})
    parts["imagebind"].write_bytes(parts["imagebind"].read_bytes()[:-4000])
    with pytest.raises(CheckpointError, match=r"imagebind_huge\.pth is half downloaded"):
        load_panda(parts)


# -- Video-LLaMA ---------------------------------------------------------------------------------


def test_sizes_are_those_of_the_wanted_branches(published):
    parts = published[video_llama]
    seeing = {name: parts[name] for name in ("vision", "qformer", "seeing")}
    hearing = {name: parts[name] for name in ("imagebind", "hearing")}
    assert read_sizes(**parts) == VideoLlamaSizes(4096, 32, 224, heard=8)
    assert read_sizes(parts["llm"], **seeing) == VideoLlamaSizes(4096, 32, 224)
    assert read_sizes(parts["llm"], **hearing) == VideoLlamaSizes(4096, heard=8)


def test_sound_comes_before_the_picture(published):
    model = load_llama(published[video_llama])
    inputs = VideoLlamaInputs(TEXTS, FRAMES, MEL)
    with torch.inference_mode():
        prompt = model.embed(inputs)
        assert prompt.shape == (2 + 8 + 2 + 32 + 1, 32)
        torch.testing.assert_close(prompt[2:10], model.hearing(MEL))
        torch.testing.assert_close(prompt[12:44], model.seeing(FRAMES))
        seen = model.embed(replace(inputs, texts=TEXTS[:2], mel=None))
        torch.testing.assert_close(seen[2:34], prompt[12:44])


def test_frames_and_stretches_are_distinguished_by_their_positions(published):
    model = load_llama(published[video_llama])
    with torch.inference_mode():
        assert not torch.allclose(model.seeing(FRAMES), model.seeing(FRAMES.flip(0)), atol=1e-4)
        assert not torch.allclose(model.hearing(MEL), model.hearing(MEL.flip(0)), atol=1e-4)
        assert model.seeing(FRAMES[:1]).shape == (32, 32)


@pytest.mark.parametrize(
    ("part", "lost", "named"),
    [
        ("seeing", "video_query_tokens", "video_queries"),
        ("seeing", "video_Qformer.bert.encoder.layer.1.output_query.dense.bias", "video_qformer"),
        ("qformer", "ln_vision.weight", "ln_vision"),
        ("hearing", "audio_position_embedding.weight", "hearing.positions"),
        ("imagebind", "modality_trunks.audio.blocks.1.attn.bias_k", r"attn\.bias_k"),
    ],
)
def test_a_lost_tensor_of_video_llama_is_named(published, tmp_path, part, lost, named):
    parts = copied(published[video_llama], tmp_path)
    inner = None if part == "imagebind" else "model"
    rewrite(parts[part], lambda tensors: tensors.pop(lost), inner)
    with pytest.raises(CheckpointError, match=named):
        load_llama(parts)


def test_an_unknown_tensor_of_video_llama_is_named(published, tmp_path):
    parts = copied(published[video_llama], tmp_path)
    rewrite(parts["hearing"], lambda tensors: tensors.update(extra=torch.zeros(1)), "model")
    with pytest.raises(CheckpointError, match="extra"):
        load_llama(parts)


def test_files_of_video_llama_are_distinguished(published):
    parts = published[video_llama]
    with pytest.raises(CheckpointError):
        load_llama(parts | {"seeing": parts["hearing"], "hearing": parts["seeing"]})


@pytest.mark.parametrize("module", [pandagpt, video_llama])
def test_half_precision_is_loaded_as_such(published, module):
    load = {pandagpt: load_panda, video_llama: load_llama}[module]
    model = load(published[module], Placement(CPU.device, torch.bfloat16))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    inputs = {
        pandagpt: PandaGptInputs(TEXTS[:2], torch.randn(15, 3, 2, 224, 224), MEL[:3]),
        video_llama: VideoLlamaInputs(TEXTS, FRAMES, MEL),
    }[module]
    with torch.inference_mode():
        assert model.embed(inputs).isfinite().all()


@pytest.mark.parametrize("module", [pandagpt, video_llama])
def test_the_same_seed_writes_the_same_weights(published, module, tmp_path):
    again, other = (module.write_miniature(tmp_path / str(seed), seed) for seed in (0, 1))
    first, second, third = (
        torch.load(parts["imagebind"], weights_only=True)
        for parts in (published[module], again, other)
    )
    assert first.keys() == second.keys() == third.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(*(each["modality_heads.audio.2.weight"] for each in (first, third)))
