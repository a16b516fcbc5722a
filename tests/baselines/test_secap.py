"""SECap's one file and the folders beside it, on a miniature. (Golden data pin the numbers.)"""

import pytest
import torch

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.layers.hubert import normalise
from ovmer.baselines.models.secap import SHORTEST_SAMPLES, Secap, SecapInputs, write_miniature

CPU = Placement(torch.device("cpu"), torch.float32)
SIZES = ("hubert", "bert", "llm")


@pytest.fixture
def parts(tmp_path):
    paths = write_miniature(tmp_path, seed=6)
    return {name: path for name, path in paths.items() if name != "similarity"}


def test_a_miniature_has_the_published_names(parts):
    names = torch.load(parts["model"], weights_only=True)
    published = "text2vec_model hubert_model audio_project audio_Qformer audio_query_tokens "
    published += "audio_llama_project llama_model"
    assert {name.partition(".")[0] for name in names} == set(published.split())


def change(parts, edit):
    content = torch.load(parts["model"], weights_only=True)
    torch.save(edit(content) or content, parts["model"])


@pytest.mark.parametrize("samples", [SHORTEST_SAMPLES, 16000, 100000])
def test_every_sound_takes_32_positions(parts, samples):
    model = Secap.load(**parts, placement=CPU)
    sound = torch.randn(samples, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        heard = model.encode(normalise(sound))
        prompt = model.embed(SecapInputs([[1], [1, 5, 6]], normalise(sound)))
    assert heard.shape == (32, 32)
    assert torch.equal(prompt[0], prompt[33])
    assert torch.equal(prompt[1:33], heard)


def test_silence_is_a_sound(parts):
    assert torch.isfinite(
        Secap.load(**parts, placement=CPU).encode(normalise(torch.zeros(8000)))
    ).all()


def test_loudness_is_not_heard(parts):
    model = Secap.load(**parts, placement=CPU)
    sound = torch.randn(8000, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        loud, low = (model.encode(normalise(gain * sound)) for gain in (1.0, 0.25))
    assert torch.allclose(loud, low, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.update(unknown=torch.zeros(1)), "has no place for .*unknown"),
        (
            lambda c: {k: v for k, v in c.items() if "audio_project" not in k},
            "needs narrowing.bias",
        ),
        (lambda c: {k: v for k, v in c.items() if "query_tokens" not in k}, "is it SECap's model"),
    ],
)
def test_what_is_wrong_with_the_file_is_named(parts, edit, message):
    change(parts, edit)
    with pytest.raises(CheckpointError, match=message):
        Secap.load(**parts, placement=CPU)


@pytest.mark.parametrize("part", SIZES)
def test_a_folder_without_sizes_is_named(parts, part):
    (parts[part] / "config.json").write_text("{}" if part == "bert" else "not json")
    with pytest.raises(CheckpointError, match=parts[part].name):
        Secap.load(**parts, placement=CPU)
