"""Which prompts are decoded together: which enter, which leave, what happens without memory.

Nothing here is about a model: `ContinuousEngine` prefills, steps and chooses tokens.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils.memory import clear_device_cache
from torch import Tensor
from transformers import Cache, LogitsProcessorList

from ovmer.baselines.decoding.answers import Generated, NotFinite
from ovmer.baselines.decoding.batches import DOES_NOT_FIT, Batches
from ovmer.baselines.decoding.row_cache import RowCache
from ovmer.baselines.errors import ClipError, OutOfMemory, where
from ovmer.baselines.faults import is_device_lost, is_out_of_memory

if TYPE_CHECKING:
    from ovmer.baselines.decoding.continuous import ContinuousEngine

_PREFILL_TOKENS = 2048
"""Tokens of prompts, padding included, that one forward pass takes in."""
_FREE = 8
"""Prompts enter when one row in eight is free: fewer, larger forward passes."""
_SHORTEST = 16
"""Tokens; a shared beginning that is shorter is computed for each prompt."""

_MISTAKES = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)
"""How a forward pass fails on some prompts; whatever else is raised ends the run."""

Done = tuple[int, Generated | ClipError]


@dataclass
class DecodingRow:
    """A prompt, and the answer that it has so far."""

    key: int
    prompt: Any
    """Embeddings (length x hidden size) or token ids."""
    seed: int
    limit: int
    """Tokens of the answer at most."""
    ids: list[int] = field(default_factory=list)
    stream: torch.Generator = field(default_factory=torch.Generator)
    restraints: LogitsProcessorList = field(default_factory=LogitsProcessorList)
    seen: Tensor = field(default_factory=lambda: torch.empty(1, 0))
    """Token ids (1 x n) that restraints look at: of the prompt, where it has ids, and new ones."""


class _Beginning:
    """How prompts begin: keys and values of the first one, cut to what the others share with it."""

    def __init__(self) -> None:
        self._prompt: Any = None
        self.states: list[tuple[Tensor, Tensor]] = []
        """Keys and values of each layer (1 x heads x length x width)."""

    def shared_with(self, prompt: Any) -> int:
        """How many tokens at the beginning of a prompt are known; at least its last one is not."""
        if self._prompt is None:
            return 0
        length = min(len(self._prompt), len(prompt) - 1)
        if isinstance(prompt, Tensor):
            same = (self._prompt[:length] == prompt[:length]).all(dim=1)
            shared = int(same.long().cumprod(0).sum())
        else:
            pairs = zip(self._prompt, prompt[:length], strict=False)
            shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        return shared if shared >= _SHORTEST else 0

    def learn(self, prompts: Sequence[Any], prefilled: Cache, start: int) -> None:
        """Keep the first prompt, whose own tokens begin in column `start`; then cut it."""
        if self._prompt is None:
            self._prompt, prompts = prompts[0], prompts[1:]
            self._keep(
                [
                    (each.keys[:1, :, start:], each.values[:1, :, start:])
                    for each in prefilled.layers
                ]
            )
        for prompt in prompts:
            shared = self.shared_with(prompt)
            if 0 < shared < len(self._prompt):
                self._prompt = self._prompt[:shared]
                self._keep([(k[:, :, :shared], v[:, :, :shared]) for k, v in self.states])

    def _keep(self, states: Iterable[tuple[Tensor, Tensor]]) -> None:
        self.states = [(keys.clone(), values.clone()) for keys, values in states]


class DecodingRows:
    """The answers to prompts, each as soon as it is known."""

    def __init__(
        self, engine: "ContinuousEngine", coming: Iterator[DecodingRow], cache: RowCache
    ) -> None:
        self._engine, self._coming, self._cache = engine, coming, cache
        engine.shrunk_to = None
        self._rows: list[DecodingRow] = []
        self._entering: list[DecodingRow] = []
        """Those whose prompts are being taken in."""
        self._waiting = deque[DecodingRow]()
        """Those that were drawn and are not at work."""
        self._first = _Beginning()
        self._is_open, self._is_filling = True, True
        self._alone = 0
        """So many prompts enter one by one, since the model failed on them together."""
        self._sizes, self._answered = Batches(), 0

    def __iter__(self) -> Iterator[Done]:
        while self._is_open or self._waiting or self._rows:
            try:
                done = self._turn()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                done = None
            # Outside the handler: the error's traceback would keep the tensors of the failed call.
            yield from self._begin_again() if done is None else done

    @property
    def _most(self) -> int:
        return min(self._engine.most_rows, self._sizes.size or self._engine.most_rows)

    def _turn(self) -> list[Done]:
        """Take prompts in, or give each row a token; returns the answers that are complete."""
        if (self._is_filling or not self._rows) and (group := self._group()):
            return self._enter(group)
        if not self._rows:
            return []
        scores = self._engine.step(self._rows, self._cache)
        return self._leave(0, self._engine.choose(self._rows, scores))

    def _group(self) -> list[DecodingRow]:
        """The next prompts, as many as one forward pass takes in."""
        group: list[DecodingRow] = []
        longest, shared = 0, 0
        while (row := self._next([*self._rows, *group])) is not None:
            both = self._first.shared_with(row.prompt)
            both = min(both, shared) if group else both
            longest = max(longest, len(row.prompt))
            too_long = (longest - both) * (len(group) + 1) > _PREFILL_TOKENS
            if group and (too_long or self._alone):
                self._waiting.appendleft(row)
                break
            group.append(row)
            shared = both
        self._alone = max(0, self._alone - len(group))
        return group

    def _next(self, beside: Sequence[DecodingRow]) -> DecodingRow | None:
        """The next prompt, if there is a row and memory for it beside these."""
        row = None
        if len(beside) < self._most:
            row = self._waiting.popleft() if self._waiting else next(self._coming, None)
            self._is_open = row is not None or bool(self._waiting)
            if row is not None and beside and not self._fits([*beside, row]):
                self._waiting.appendleft(row)
                row = None
        self._is_filling = row is not None
        return row

    def _fits(self, rows: Sequence[DecodingRow]) -> bool:
        most = self._engine.most_tokens
        return not most or len(rows) * _width(rows) <= most

    def _enter(self, group: list[DecodingRow]) -> list[Done]:
        self._entering = group
        shared = min(self._first.shared_with(row.prompt) for row in group)
        try:
            scores, prefilled = self._engine.prefill(group, self._first.states, shared)
        except _MISTAKES as error:
            if is_out_of_memory(error) or is_device_lost(error):
                raise
            return self._fail(group, error)
        whole = prefilled.get_seq_length()
        starts = [whole - len(row.prompt) + shared for row in group]
        if self._most > 1:  # a prompt that is decoded alone owes nothing to another one
            self._first.learn([row.prompt for row in group], prefilled, starts[0])
        rows = [*self._rows, *group]
        self._cache.reserve(len(rows), _width(rows), self._engine.most_tokens)
        self._cache.append(prefilled, starts, shared)
        self._rows, self._entering = rows, []
        return self._leave(len(rows) - len(group), self._engine.choose(group, scores))

    def _leave(self, index: int, answers: Sequence[Generated | ClipError | None]) -> list[Done]:
        """Remove the rows from `index` on that have an answer."""
        done = list[Done]()
        for row, answer in reversed(list(enumerate(answers, index))):
            if answer is not None:
                done.append((self._rows[row].key, answer))
                self._rows[row] = self._rows[-1]
                self._rows.pop()
                self._cache.remove(row, wipe=isinstance(answer, NotFinite))
        most = self._most
        self._is_filling |= len(self._rows) <= most - max(1, most // _FREE)
        self._answered += len(done)
        if self._answered >= most:
            self._sizes.fitted(most)
            self._answered = 0
        return done[::-1]

    def _fail(self, group: list[DecodingRow], error: Exception) -> list[Done]:
        """The model failed on a group: each is tried alone, and one that is alone has failed."""
        self._entering = []
        if len(group) > 1:
            self._waiting.extendleft(reversed(group))
            self._alone = len(group)
            return []
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return [(group[0].key, ClipError(f"{said}{where(error)}"))]

    def _begin_again(self) -> list[Done]:
        """Memory ran out: all rows wait, to be decoded anew with fewer at once."""
        rows = [*self._rows, *self._entering]
        self._rows, self._entering, self._first = [], [], _Beginning()
        self._cache.clear()
        clear_device_cache(garbage_collection=True)
        self._sizes.failed(len(rows))
        self._engine.shrunk_to = self._sizes.size
        self._is_filling, self._answered = True, 0
        if len(rows) > 1:
            self._waiting.extendleft(reversed(rows))
            return []
        return [(row.key, OutOfMemory(DOES_NOT_FIT)) for row in rows]


def _width(rows: Sequence[DecodingRow]) -> int:
    """Tokens of the longest, its whole answer included."""
    return max(len(row.prompt) + row.limit for row in rows)
