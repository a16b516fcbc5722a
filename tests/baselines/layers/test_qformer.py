"""The Q-Former under its published keys, against its equations written out."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.layers.qformer import QFormer, QFormerConfig, published_qformer, qformer_keys
from ovmer.baselines.weights import rename
from tests.baselines.tensors import lazy

HEADS, WIDTH, SEEN, FFN, WORDS = 3, 12, 20, 16, 50


def published(layers: int, every: int, reads_text: bool) -> dict[str, Tensor]:
    """A random state dict as LAVIS writes it, with what its files keep besides."""
    stream = torch.Generator().manual_seed(layers)
    tensors: dict[str, Tensor] = {"Qformer.cls.bias": torch.zeros(1)}

    def linear(name: str, outputs: int, inputs: int) -> None:
        for leaf, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
            tensors[f"Qformer.bert.{name}.{leaf}"] = torch.randn(shape, generator=stream) / 3

    def norm(name: str) -> None:
        for leaf in ("weight", "bias"):
            values = torch.randn(WIDTH, generator=stream)
            tensors[f"Qformer.bert.{name}.LayerNorm.{leaf}"] = values

    def attention(name: str, inputs: int) -> None:
        linear(f"{name}.self.query", WIDTH, WIDTH)
        linear(f"{name}.self.key", WIDTH, inputs)
        linear(f"{name}.self.value", WIDTH, inputs)
        linear(f"{name}.output.dense", WIDTH, WIDTH)
        norm(f"{name}.output")

    norm("embeddings")
    tensors["Qformer.bert.embeddings.position_ids"] = torch.arange(8)[None]
    for table, rows in (("word", WORDS), ("position", 8)):
        values = torch.randn(rows, WIDTH, generator=stream)
        tensors[f"Qformer.bert.embeddings.{table}_embeddings.weight"] = values
    for i in range(layers):
        attention(f"encoder.layer.{i}.attention", WIDTH)
        if i % every == 0:
            attention(f"encoder.layer.{i}.crossattention", SEEN)
        for branch in ("", "_query"):
            linear(f"encoder.layer.{i}.intermediate{branch}.dense", FFN, WIDTH)
            linear(f"encoder.layer.{i}.output{branch}.dense", WIDTH, FFN)
            norm(f"encoder.layer.{i}.output{branch}")
    return tensors


def by_hand(
    tensors: dict[str, Tensor], layers: int, queries: Tensor, states: Tensor, text: Tensor | None
) -> Tensor:
    """BERT with cross-attention for the queries and a feed-forward of their own."""

    def take(name: str) -> tuple[Tensor, Tensor]:
        key = f"Qformer.bert.{name}"
        return tensors[f"{key}.weight"], tensors[f"{key}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (WIDTH,), *take(f"{name}.LayerNorm"), eps=1e-12)

    def attend(name: str, x: Tensor, seen: Tensor) -> Tensor:
        q, k, v = (
            F.linear(of, *take(f"{name}.self.{part}")).unflatten(-1, (HEADS, -1)).transpose(-2, -3)
            for part, of in (("query", x), ("key", seen), ("value", seen))
        )
        weights = (q @ k.transpose(-1, -2) / math.sqrt(WIDTH // HEADS)).softmax(-1)
        mixed = (weights @ v).transpose(-2, -3).flatten(-2)
        return norm(f"{name}.output", F.linear(mixed, *take(f"{name}.output.dense")) + x)

    def feed(name: str, branch: str, x: Tensor) -> Tensor:
        inner = F.gelu(F.linear(x, *take(f"{name}.intermediate{branch}.dense")))
        outer = F.linear(inner, *take(f"{name}.output{branch}.dense"))
        return norm(f"{name}.output{branch}", outer + x)

    x = queries.expand(len(states), -1, -1)
    if text is not None:
        word, position = (
            tensors[f"Qformer.bert.embeddings.{table}_embeddings.weight"]
            for table in ("word", "position")
        )
        x = torch.cat([x, word[text] + position[: text.shape[1]]], dim=1)
    x, count = norm("embeddings", x), queries.shape[1]
    for i in range(layers):
        layer = f"encoder.layer.{i}"
        x = attend(f"{layer}.attention", x, x)
        asked, words = x[:, :count], x[:, count:]
        if f"Qformer.bert.{layer}.crossattention.self.key.weight" in tensors:
            asked = attend(f"{layer}.crossattention", asked, states)
        x = torch.cat([feed(layer, "_query", asked), feed(layer, "", words)], dim=1)
    return x[:, :count]


@pytest.mark.parametrize("reads_text", [False, True])
@pytest.mark.parametrize(("layers", "every"), [(2, 1), (4, 2)])
def test_published_keys_give_the_equations(layers, every, reads_text):
    tensors = published(layers, every, reads_text)
    renamed = rename(lazy(tensors), qformer_keys("Qformer.", "qformer.", reads_text))
    config = QFormerConfig.from_tensors(renamed, "qformer.", HEADS)
    words = {"vocabulary": WORDS, "positions": 8} if reads_text else {}
    assert config == QFormerConfig(SEEN, layers, every, WIDTH, HEADS, FFN, **words)
    model = QFormer(config).eval()
    values = {key.removeprefix("qformer."): tensor.read() for key, tensor in renamed.items()}
    model.load_state_dict(values, strict=True)
    queries, states = torch.randn(1, 5, WIDTH), torch.randn(3, 7, SEEN)
    text = torch.randint(WORDS, (3, 4)) if reads_text else None
    with torch.inference_mode():
        found = model(queries, states, text)
    expected = by_hand(tensors, layers, queries, states, text)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reads_text", [False, True])
def test_the_way_back_gives_published_names(reads_text):
    tensors = lazy(published(4, 2, reads_text))
    used = rename(tensors, qformer_keys("Qformer.", "here.", reads_text))
    back = rename(used, published_qformer("here.", "Qformer."))
    assert {name: tensors[name] for name in back} == back


def test_a_file_without_one_is_named():
    with pytest.raises(CheckpointError, match="has no Q-Former"):
        QFormerConfig.from_tensors(lazy({"qformer.bert.pooler": torch.zeros(1)}), "qformer.")
