"""Keys and values of a batch whose rows come and go, in memory that is allocated once.

The default cache of transformers is copied as a whole at every token, and all of its rows have one
length. Here each row has its own length: a new token is written behind the row's last one, and a
row that leaves is replaced by the last row.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

CACHE_ARGUMENT = "cache" if hasattr(CausalLMOutputWithPast, "cache") else "past_key_values"
"""What transformers calls the cache in a model's arguments and output: `past_key_values`, and in
later releases of version 5 `cache`."""
_STEP = 64
"""Columns are allocated in multiples of this."""


class RowCache(Cache):
    """Row i holds the tokens of its prompt and answer in its first `lengths[i]` columns."""

    def __init__(self, config: Any) -> None:
        self.lengths: list[int] = []
        self.width = 0
        """Columns in use before a step."""
        self.ends = self.rows = torch.empty(0, dtype=torch.long)
        """Column of each row's new token, and the row's index."""
        self._room = (0, 0)
        super().__init__(layers=[_RowLayer(self) for _ in DynamicCache(config=config).layers])

    @staticmethod
    def supports(config: Any) -> bool:
        """Whether every layer of such a model attends to all earlier tokens."""
        layers = DynamicCache(config=config).layers
        return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)

    def reserve(self, rows: int, columns: int, at_most: int) -> None:
        """Make room for rows of `columns` tokens, within `at_most` tokens (0: any number)."""
        columns = -(-columns // _STEP) * _STEP if at_most == 0 else columns
        if not at_most or rows * self._room[1] <= at_most:
            columns = max(columns, self._room[1])
        if rows <= self._room[0] and columns == self._room[1]:
            return
        spare = max(rows, 2 * len(self.lengths))
        if at_most:
            spare = max(rows, min(spare, at_most // columns))
        self._room = (spare, columns)

    def append(self, prefilled: Cache, starts: Sequence[int], shared: int) -> None:
        """Add the rows of `prefilled`.

        Its first `shared` columns belong to every row, then comes padding, then from the column
        `starts[i]` on what row i has for itself.
        """
        for ours, theirs in zip(self.layers, prefilled.layers, strict=True):
            ours.grow(theirs.keys, self._room)
            for states, added in ((ours.keys, theirs.keys), (ours.values, theirs.values)):
                for row, (own, start) in enumerate(
                    zip(added, starts, strict=True), len(self.lengths)
                ):
                    end = shared + own.shape[1] - start
                    states[row, :, :shared] = own[:, :shared]
                    states[row, :, shared:end] = own[:, start:]
        whole = prefilled.get_seq_length()
        self.lengths += [shared + whole - start for start in starts]

    def remove(self, row: int, wipe: bool) -> None:
        """Put the last row in the place of `row`.

        `wipe` is for rows that are NaN or infinite: a mask would not hide that from a later row.
        """
        last = len(self.lengths) - 1
        for layer in self.layers:
            for states in (layer.keys, layer.values):
                if wipe:
                    states[row] = 0
                if row != last:
                    length = self.lengths[last]
                    states[row, :, :length] = states[last, :, :length]
        self.lengths[row] = self.lengths[last]
        self.lengths.pop()

    def clear(self) -> None:
        """Remove all rows and free their memory."""
        self.lengths, self._room = [], (0, 0)
        for layer in self.layers:
            layer.keys = layer.values = None

    def begin_step(self, device: torch.device) -> Tensor:
        """Make each row one token longer.

        Returns the mask (rows x columns) of what a row may look at: beyond its end is what earlier
        rows left there.
        """
        self.width = max(self.lengths)
        self.ends = torch.tensor(self.lengths, device=device)
        self.rows = torch.arange(len(self.lengths), device=device)
        self.lengths = [length + 1 for length in self.lengths]
        return torch.arange(self.width + 1, device=device) <= self.ends[:, None]


class _RowLayer(DynamicLayer):
    def __init__(self, cache: RowCache) -> None:
        super().__init__()
        self._cache = cache

    def grow(self, like: Tensor, room: tuple[int, int]) -> None:
        """Have `room` (rows, columns) for states like these (rows x heads x columns x width)."""
        if self.keys is not None and (self.keys.shape[0], self.keys.shape[2]) == room:
            return
        rows, columns = room
        count, width = len(self._cache.lengths), max(self._cache.lengths, default=0)
        for name in ("keys", "values"):
            # Zeros, since what a mask hides is still multiplied by 0.
            fresh = like.new_zeros(rows, like.shape[1], columns, like.shape[3])
            if count:
                fresh[:count, :, :width] = getattr(self, name)[:count, :, :width]
            setattr(self, name, fresh)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        cache = self._cache
        rows, ends = cache.rows.to(key_states.device), cache.ends.to(key_states.device)
        self.keys[rows, :, ends] = key_states[:, :, 0]
        self.values[rows, :, ends] = value_states[:, :, 0]
        count, width = key_states.shape[0], cache.width + 1
        return self.keys[:count, :, :width], self.values[:count, :, :width]

    def get_seq_length(self) -> int:
        return self._cache.width
