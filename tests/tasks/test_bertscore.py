"""BERTScore of free answers, with a random model of a few words."""

from pathlib import Path
from typing import Any

import pytest

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.scoring import Scores, make_metric

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] the audience laughed because he she fell joked".split()
REFERENCE = "the audience laughed because he fell"
LAYERS = 2


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a BERT of two layers and a tokenizer of WORDS."""
    pytest.importorskip("bert_score", reason="bert-score is not installed")
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("weights")
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=32).save_pretrained(folder)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(WORDS), num_hidden_layers=LAYERS, **sizes)
    BertModel(config).save_pretrained(folder)
    return folder


def scored(bert: Path, *replies: str) -> Scores:
    protocol = {"family": "text", "bert": str(bert), "bert_layers": LAYERS}
    metric = make_metric(
        {"kind": "protocols", "primary": "p/BERTScore", "protocols": {"p": protocol}}
    )
    names = [str(i) for i in range(len(replies))]
    return metric.score(dict(zip(names, replies, strict=True)), dict.fromkeys(names, REFERENCE))


def by_hand(bert: Path, reply: str) -> float:
    """F of the best cosines, token by token (arXiv 1904.09675). As in bert_score, [CLS] and [SEP]
    may be a word's best match, and have no part in the means."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = (each.from_pretrained(bert) for each in (AutoTokenizer, AutoModel))
    states = []
    for text in (reply, REFERENCE):
        with torch.inference_mode():
            found = model.eval()(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        states.append(torch.nn.functional.normalize(found, dim=-1))
    cosines = states[0] @ states[1].T
    precision, recall = (float(cosines.amax(dim)[1:-1].mean()) for dim in (1, 0))
    return 2 * precision * recall / (precision + recall)


def test_it_is_the_mean_over_the_replies_that_are_not_empty(bert: Path) -> None:
    other = "she joked"
    found = scored(bert, REFERENCE, other, "")
    assert found.n_counted == 2
    each = (1 + by_hand(bert, other)) / 2
    assert found.figures["p/BERTScore"] == pytest.approx(each, abs=1e-5)  # float32
    assert found.figures["p/BERTScore"] < 0.999


def test_a_model_that_is_not_there_is_one_sentence(bert: Path) -> None:
    with pytest.raises(PrerequisiteError, match=r"cannot use bert=.*nowhere"):
        scored(bert / "nowhere", REFERENCE)
    with pytest.raises(PrerequisiteError, match="with bert_layers=2"):
        scored(bert / "vocab.txt", REFERENCE)
