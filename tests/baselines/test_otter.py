"""Otter: who looks at the video and when, the published layout, the tokenizer."""

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.models.otter import (
    Otter,
    OtterTokenizer,
    PerceiverResampler,
    read_sizes,
    write_miniature,
)

CPU = Placement(torch.device("cpu"), torch.float32)
GOLDEN = Path(__file__).parents[1] / "golden" / "otter" / "checkpoint"
IMAGE = 401
PROMPT = torch.tensor([[1, IMAGE, 50, 60, 70]])


@pytest.fixture
def parts(tmp_path):
    return write_miniature(tmp_path, seed=4)


@pytest.fixture
def model(parts):
    return Otter.load(parts["model"], IMAGE, CPU)


def names(folder: Path) -> set[str]:
    """The keys of the index of shards, with one number for all layers."""
    index = json.loads((folder / "pytorch_model.bin.index.json").read_text())
    return {re.sub(r"\.\d+\.", ".N.", name, count=1) for name in index["weight_map"]}


def logits(model: Otter, ids: torch.Tensor, media: torch.Tensor | None) -> torch.Tensor:
    with torch.inference_mode():
        return model.llm(input_ids=ids, **model.llm.looks(ids, media)).logits


def test_a_miniature_has_the_published_names(parts):
    unused = r"inv_freq|position_ids|post_layernorm"
    ours, golden = (
        {name for name in names(folder) if not re.search(unused, name)}
        for folder in (parts["model"], GOLDEN)
    )
    assert ours == golden


def test_words_look_at_the_video_from_the_image_on(model):
    one, other = torch.randn(2, 1, 64, 32)
    differ = (logits(model, PROMPT, one) != logits(model, PROMPT, other)).any(dim=-1)
    assert differ.tolist() == [[False, True, True, True, True]]


def test_a_word_alone_does_not_look_unless_it_is_the_image(model):
    media = torch.randn(1, 64, 32)
    assert model.llm.looks(torch.tensor([[50]]), media)["media"] is None
    assert model.llm.looks(torch.tensor([[IMAGE]]), media)["media"] is media


def test_padding_does_not_look(model):
    ids = torch.tensor([[1, 1, 1, IMAGE, 50], PROMPT[0].tolist()])
    looking = model.llm.looks(ids, torch.randn(2, 64, 32))["looking"]
    assert looking.tolist() == [[False] * 3 + [True] * 2, [False] + [True] * 4]


def test_with_its_gates_closed_it_is_llama(model):
    gated = [i for i, layer in enumerate(model.llm.model.layers) if layer.gated is not None]
    assert gated == [1, 3]
    for i in gated:
        block = model.llm.model.layers[i].gated
        block.attn_gate.zero_()
        block.ff_gate.zero_()
    plain = LlamaForCausalLM(model.llm.config).eval()
    words = {name: t for name, t in model.llm.state_dict().items() if ".gated." not in name}
    plain.load_state_dict(words, strict=True)
    with torch.inference_mode():
        expected = plain(input_ids=PROMPT).logits
    assert torch.equal(logits(model, PROMPT, torch.randn(1, 64, 32)), expected)


def test_frames_are_distinguished_by_their_embeddings_alone(model):
    patches = torch.randn(5, 4, 32)
    plain = PerceiverResampler(32, None, 6).eval()
    tensors = {name: t for name, t in model.perceiver.state_dict().items() if name != "frame_embs"}
    plain.load_state_dict(tensors, strict=True)
    with torch.inference_mode():
        assert torch.allclose(plain(patches), plain(patches.flip(0)), atol=1e-5)
        ordered, turned = model.perceiver(patches), model.perceiver(patches.flip(0))
    assert not torch.allclose(ordered, turned, atol=1e-2)


def test_a_checkpoint_without_frame_embeddings_loads(parts):
    folder = parts["model"]
    config = json.loads((folder / "config.json").read_text())
    del config["max_num_frames"]
    (folder / "config.json").write_text(json.dumps(config))
    assert read_sizes(folder).most_frames is None
    with pytest.raises(CheckpointError, match=r"Otter has no place for .*perceiver\.frame_embs"):
        Otter.load(folder, IMAGE, CPU)
    for shard in folder.glob("*.bin"):
        tensors = torch.load(shard, weights_only=True)
        tensors.pop("perceiver.frame_embs", None)
        torch.save(tensors, shard)
    assert Otter.load(folder, IMAGE, CPU).perceiver.frame_embs is None


def test_a_configuration_of_another_model_is_named(parts):
    (parts["model"] / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(CheckpointError, match="lacks cross_attn_every_n_layers, text_config"):
        read_sizes(parts["model"])


def test_only_the_end_of_a_chunk_ends_an_answer(parts):
    tokenizer = OtterTokenizer(parts["tokenizer"] / "tokenizer.model")
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.stop_ids) == (1, 400, (400,))
    assert (tokenizer.image_id, tokenizer.answer_id) == (IMAGE, 402)


def test_what_counts_is_what_follows_the_last_answer_token(parts):
    tokenizer = OtterTokenizer(parts["tokenizer"] / "tokenizer.model")
    sad, glad = tokenizer.encode("sad"), tokenizer.encode("glad")
    assert tokenizer.decode([*sad, 402, *sad, 402, 1, *glad, 2]) == "glad"
    assert tokenizer.decode(glad) == "glad"
