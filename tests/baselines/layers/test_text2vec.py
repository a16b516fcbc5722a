"""Vectors of sentences, and which of them are most alike."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertModel
from transformers import BertTokenizer as TheirTokenizer

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.layers.text2vec import Text2Vec, most_alike, write_text2vec_miniature

CPU = Placement(torch.device("cpu"), torch.float32)
SENTENCES = ["他看起来很高兴。", "He sighs, sad and low.", "她，惊讶", ""]


@pytest.fixture
def folder(tmp_path):
    write_text2vec_miniature(tmp_path, seed=5)
    return tmp_path


def test_vectors_are_means_of_a_bert(folder):
    """As SECap reads the file: by BertModel, whose loading drops the embedding of tasks."""
    content = json.loads((folder / "config.json").read_text())
    config = BertModel.config_class(**(content | {"model_type": "bert"}))
    bert = BertModel(config, add_pooling_layer=False)
    bert.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    tokenizer = TheirTokenizer(str(folder / "vocab.txt"))
    with torch.inference_mode():
        theirs = [
            bert.eval()(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0)
            for text in SENTENCES
        ]
    ours = Text2Vec.load(folder, CPU)(SENTENCES)
    assert torch.allclose(ours, torch.nn.functional.normalize(torch.stack(theirs)), atol=1e-5)


def test_those_least_like_the_others_are_dropped():
    angles = torch.tensor([0.0, 3.0, 0.1, -0.1, 1.5, 0.2])
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert most_alike(vectors, 4) == [0, 2, 3, 5]
    assert most_alike(vectors, 5) == [0, 2, 3, 4, 5]
    assert most_alike(vectors, 6) == [0, 1, 2, 3, 4, 5]
    assert most_alike(vectors[:1], 1) == [0]


@pytest.mark.parametrize("prefix", ["bert.", "ernie."])
def test_names_may_begin_with_the_model(folder, prefix):
    plain = Text2Vec.load(folder, CPU)(SENTENCES)
    tensors = load_file(folder / "model.safetensors")
    save_file({prefix + key: value for key, value in tensors.items()}, folder / "model.safetensors")
    assert torch.equal(Text2Vec.load(folder, CPU)(SENTENCES), plain)


def test_a_missing_vocabulary_is_named(folder):
    (folder / "vocab.txt").unlink()
    with pytest.raises(CheckpointError, match=r"has no vocab\.txt"):
        Text2Vec.load(folder, CPU)
