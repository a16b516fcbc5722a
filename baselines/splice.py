"""Words and what was seen or heard, side by side in the language model's embedding space."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

_watched: ContextVar[list[Tensor] | None] = ContextVar("watched", default=None)


@contextmanager
def watching() -> Iterator[list[Tensor]]:
    """Collect the vectors put between words meanwhile (rows x hidden size each), in order."""
    found = list[Tensor]()
    token = _watched.set(found)
    try:
        yield found
    finally:
        _watched.reset(token)


def splice(
    embedding: nn.Module, texts: Sequence[Sequence[int]], features: Sequence[Tensor]
) -> Tensor:
    """Prompt embeddings (length x hidden size): text, features, text, features, ..., text.

    `embedding` is the language model's input table, `texts` the ids around the slots (one more than
    there are slots, empty where two slots touch), `features` (rows x hidden size) fill the slots.
    """
    if len(texts) != len(features) + 1:
        raise ValueError(f"{len(features)} slots need {len(features) + 1} texts, not {len(texts)}")
    if (watched := _watched.get()) is not None:
        watched.extend(features)
    table = next(embedding.parameters())
    ids = torch.tensor([i for text in texts for i in text], dtype=torch.long, device=table.device)
    words = embedding(ids).split([len(text) for text in texts])
    pieces = [words[0]]
    for feature, text in zip(features, words[1:], strict=True):
        pieces += [feature.to(table), text]
    return torch.cat(pieces)
