"""OneLLM: the consolidated file, the pictures of sounds, and the miscount of its own code."""

import json
import shutil

import numpy as np
import pytest
import torch

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError, MissingModality
from ovmer.baselines.llama import from_meta, to_meta
from ovmer.baselines.models.onellm import (
    AUDIO,
    PARAMS_FILE,
    POSITIONS,
    VIDEO,
    WEIGHTS_FILE,
    OneLlm,
    OneLlmInputs,
    mel_picture,
    write_miniature,
)
from ovmer.baselines.weight_files import LazyTensor

CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("onellm"), seed=3)["model"]


@pytest.fixture(scope="module")
def model(published):
    return OneLlm.load(published, CPU)


@pytest.fixture
def copied(published, tmp_path):
    """The miniature, to be spoiled."""
    return shutil.copytree(published, tmp_path / "copy")


def rewrite(folder, change):
    tensors = torch.load(folder / WEIGHTS_FILE, weights_only=True)
    change(tensors)
    torch.save(tensors, folder / WEIGHTS_FILE)


def noise(seconds: float) -> np.ndarray:
    samples = 0.1 * np.random.default_rng(1).normal(size=round(16000 * seconds))
    return samples.astype(np.float32)


# -- the file ------------------------------------------------------------------------------------


def test_rows_that_rotate_together_swap_positions():
    """Heads of 4 rows: Meta pairs (0, 1) and (2, 3), transformers (0, 2) and (1, 3)."""
    meta = torch.arange(8.0)[:, None]
    name, other = "model.layers.0.self_attn.k_proj.weight", "model.layers.0.self_attn.v_proj.weight"
    lazy = {key: LazyTensor((8, 1), key, lambda: meta) for key in (name, other)}
    ours = {key: tensor.read() for key, tensor in from_meta(lazy, heads=2).items()}
    assert ours[name].flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert torch.equal(ours[other], meta)
    assert torch.equal(to_meta(ours, heads=2)[name], meta)


def test_all_of_the_file_is_used_but_what_other_senses_need(model, published):
    tensors = torch.load(published / WEIGHTS_FILE, weights_only=True)
    unused = {"clip.ln_final.bias", "clip.visual.proj", "start_tag.fmri", "conv1.point.bias"}
    used = tensors.keys() - {f"llma.{name}" for name in unused}
    assert len(used) == len(tensors) - len(unused)
    fused = 2 * len(model.tower.layers) * 2  # a weight and a bias a layer become three
    assert len(model.state_dict()) == len(used) + fused
    assert sum(t.numel() for t in model.state_dict().values()) == sum(
        tensors[name].numel() for name in used
    )


@pytest.mark.parametrize(
    "name",
    [
        "resample_layers.2.0.feed_forward.w3.weight",
        "routers.video.fc2.bias",
        "clip.visual.transformer.resblocks.0.attn.in_proj_bias",
        "layers.1.attention.wk.weight",
        "tok_embeddings.weight",
        "conv1.audio.weight",
    ],
)
def test_a_lost_tensor_is_named(copied, name):
    rewrite(copied, lambda tensors: tensors.pop(f"llma.{name}"))
    last = {"in_proj_bias": "k_proj.bias", "wk.weight": "k_proj.weight"}
    tail = next((new for old, new in last.items() if name.endswith(old)), "")
    with pytest.raises(CheckpointError, match=rf"(needs|has no) .*{tail}.*(complete|Meta's)"):
        OneLlm.load(copied, CPU)


def test_an_unknown_tensor_is_named(copied):
    rewrite(copied, lambda tensors: tensors.update({"llma.resample_tokens.smell": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=r"no place for .*resample_tokens\.smell"):
        OneLlm.load(copied, CPU)


def test_a_file_of_another_model_or_half_of_one_is_reported(copied):
    content = (copied / WEIGHTS_FILE).read_bytes()
    torch.save({"model.norm.weight": torch.zeros(4)}, copied / WEIGHTS_FILE)
    with pytest.raises(CheckpointError, match="no image tower of CLIP"):
        OneLlm.load(copied, CPU)
    (copied / WEIGHTS_FILE).write_bytes(content[:-5000])
    with pytest.raises(CheckpointError, match="half downloaded"):
        OneLlm.load(copied, CPU)
    (copied / WEIGHTS_FILE).unlink()
    with pytest.raises(CheckpointError, match=f"has no {WEIGHTS_FILE}"):
        OneLlm.load(copied, CPU)


def test_params_must_fit(copied):
    params = json.loads((copied / PARAMS_FILE).read_text())
    (copied / PARAMS_FILE).write_text(json.dumps(params | {"n_layers": 3}))
    with pytest.raises(CheckpointError, match=r"needs llm\.model\.layers\.2\."):
        OneLlm.load(copied, CPU)
    del params["n_heads"]
    (copied / PARAMS_FILE).write_text(json.dumps(params))
    with pytest.raises(CheckpointError, match=r"params\.json lacks n_heads"):
        OneLlm.load(copied, CPU)


def test_half_precision_is_loaded_as_such(published):
    model = OneLlm.load(published, Placement(CPU.device, torch.bfloat16))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    with torch.inference_mode():
        prompt = model.embed(OneLlmInputs([[1], [5, 6]], VIDEO, torch.zeros(15, 3, 224, 224)))
    assert prompt.isfinite().all()


# -- the sound -----------------------------------------------------------------------------------


def test_a_sound_is_cut_or_filled_to_1024_frames():
    short, long, longer = (mel_picture(noise(seconds)) for seconds in (1, 10.3, 11))
    assert short.shape == long.shape == (1, 128, 1024)
    assert torch.equal(long, longer)
    silence = 4.2677393 / 9.1379948  # a log energy of zero
    assert torch.allclose(short[..., 98:], torch.tensor(silence))
    assert short[..., :98].std() > 0.1


def test_the_mean_of_a_sound_is_not_heard():
    """Upstream takes it off; the filter bank does so anyway."""
    heard, raised = mel_picture(noise(1)), mel_picture(noise(1) + np.float32(0.25))
    torch.testing.assert_close(raised, heard, rtol=0, atol=1e-4)  # float32 samples at 0.25: 3e-8


def test_a_sound_shorter_than_a_frame_is_none():
    mel_picture(noise(0.025))
    with pytest.raises(MissingModality, match="less than 25 ms"):
        mel_picture(noise(0.025)[:-1])


# -- the prompt and what is forgotten of it -------------------------------------------------------


@pytest.mark.parametrize("sense", [VIDEO, AUDIO])
def test_a_clip_is_between_the_tags_of_its_sense(model, sense):
    signal = mel_picture(noise(1)) if sense == AUDIO else torch.rand(15, 3, 224, 224)
    words = model.llm.get_input_embeddings()
    with torch.inference_mode():
        prompt = model.embed(OneLlmInputs([[1], [5, 6, 7]], sense, signal))
    own = model.senses[sense]
    assert len(prompt) == 1 + POSITIONS + 3
    assert torch.equal(prompt[0], words.weight[1])
    assert torch.equal(prompt[1], own.start[0, 0])
    assert torch.equal(prompt[POSITIONS], own.end[0, 0])
    assert torch.equal(prompt[POSITIONS + 1 :], words.weight[[5, 6, 7]])


def test_forgetting_is_to_go_on_without_the_last_two_of_the_prompt(model, published):
    """What upstream's cache does, told another way; the first new token has seen them all."""
    forgetful = OneLlm.load(published, CPU, forgetful=True)
    words = model.llm.get_input_embeddings().weight
    prompt = words[[1, 30, 31, 32, 33, 34]]
    with torch.inference_mode():
        found = forgetful.llm.generate(
            inputs_embeds=prompt[None],
            max_new_tokens=4,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        ids = found.sequences[0].tolist()
        first = model.llm(inputs_embeds=prompt[None]).logits[0, -1]
        # Positions 0 to 3 as the whole prompt has made them, then the answer.
        rest = torch.cat([prompt[:-2], words[ids[:-1]]])
        later = model.llm(inputs_embeds=rest[None]).logits[0, len(prompt) - 2 :]
        whole = torch.cat([prompt, words[ids[:-1]]])
        right = model.llm(inputs_embeds=whole[None]).logits[0, len(prompt) :]
    torch.testing.assert_close(found.logits[0][0], first)
    torch.testing.assert_close(torch.cat(found.logits[1:]), later, rtol=1e-4, atol=1e-5)
    assert (later - right).abs().max() > 0.1
