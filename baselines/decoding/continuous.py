"""The engine that decodes in torch with continuous batching.

A row leaves the batch when its answer has ended, and a new prompt takes its place, so that a long
answer does not hold the others up. Keys and values are never copied as a whole (`RowCache`), and
the beginning that a prompt shares with the first one (instructions, a template) is computed once.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, LogitsProcessorList, PreTrainedModel

from ovmer.baselines.decoding.answers import (
    Answered,
    Asked,
    ConditionedPrompt,
    Generated,
    MediaPrompt,
    Prompt,
    in_order,
)
from ovmer.baselines.decoding.grouped_attention import use_grouped_attention
from ovmer.baselines.decoding.row_cache import CACHE_ARGUMENT, RowCache
from ovmer.baselines.decoding.rows import DecodingRow, DecodingRows
from ovmer.baselines.decoding.sampling import draw, restraints, warpers
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.decoding.transformers_engine import TransformersEngine, last_logits_only
from ovmer.baselines.errors import ClipError, OutOfMemory
from ovmer.baselines.layers.onednn import use_onednn
from ovmer.baselines.tokenizer import Tokenizer


def transformers_engine(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    settings: GenerationSettings,
    dtype_key: str = "machine.dtype",
) -> TransformersEngine:
    """The engine that decodes `model`: `ContinuousEngine` where it can."""
    can = ContinuousEngine.supports(model, settings)
    return (ContinuousEngine if can else TransformersEngine)(model, tokenizer, settings, dtype_key)


class ContinuousEngine(TransformersEngine):
    """Prompts -> texts, each as soon as it is known.

    Prompts are drawn by how many rows are free, and by nothing else: the same prompts make the same
    batches however long anything takes, so that half precision, too, repeats its words.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Tokenizer,
        settings: GenerationSettings,
        dtype_key: str = "machine.dtype",
    ) -> None:
        super().__init__(model, tokenizer, settings, dtype_key)
        use_onednn(model)
        use_grouped_attention(model)
        self.limit(64, 0)
        self.shrunk_to: int | None = None
        """Rows that the latest stream had to make do with; None: the memory sufficed."""
        self._warpers = LogitsProcessorList(warpers(settings))

    def limit(self, rows: int, tokens: int) -> None:
        """Limit the prompts decoded at once, and their tokens (0: any number), answers and padding
        included."""
        self.most_rows = rows
        self.most_tokens = min((each for each in (tokens, self.batch_tokens) if each), default=0)

    @staticmethod
    def supports(model: PreTrainedModel, settings: GenerationSettings) -> bool:
        """Whether it can decode this: without beams, a model whose layers all see all tokens.

        A class of our own may count what is in the cache (OneLLM with `bug_compat`), or take more
        than tokens (Otter).
        """
        is_plain = type(model).__module__.startswith("transformers.")
        return settings.num_beams == 1 and is_plain and RowCache.supports(model.config)

    def generate(
        self, prompts: Sequence[Prompt], seeds: Sequence[int]
    ) -> list[Generated | ClipError]:
        """One answer per prompt, in their order. Prompts with media beside them make a batch of
        `TransformersEngine`.

        Raises MemoryError where a prompt does not fit the device, even alone.
        """
        if any(isinstance(prompt, ConditionedPrompt | MediaPrompt) for prompt in prompts):
            return super().generate(prompts, seeds)
        answers = in_order(self.stream(enumerate(zip(prompts, seeds, strict=True))))
        for answer in answers:
            if isinstance(answer, OutOfMemory):
                raise MemoryError(str(answer))
        return answers

    @torch.inference_mode()
    def stream(self, asked: Asked) -> Answered:
        """Answer prompts, which are drawn when rows are free.

        OutOfMemory is the answer to a prompt that does not fit the device alone; one on which the
        model itself fails has a ClipError. Errors of a lost device pass through.
        """
        limit = self._reader.limit
        yield from DecodingRows(
            self,
            (DecodingRow(key, prompt, seed, limit(len(prompt))) for key, (prompt, seed) in asked),
            RowCache(self._model.config),
        )

    # -- what the rows ask of the model ----------------------------------------------------------

    def prefill(
        self, rows: Sequence[DecodingRow], known: Sequence[tuple[Tensor, Tensor]], shared: int
    ) -> tuple[Tensor, Cache]:
        """Run the model over prompts whose first `shared` tokens have the keys and values `known`
        (by layer, of one row).

        Returns the scores of each row's next token (rows x vocabulary), and the keys and values:
        those of the shared tokens, padding, and each row's own.
        """
        inputs = self._padded([row.prompt[shared:] for row in rows])
        mask = inputs["attention_mask"]
        cache = DynamicCache(config=self._model.config)
        if shared:
            for layer, states in zip(cache.layers, known, strict=True):
                layer.update(
                    *(each[:, :, :shared].expand(len(rows), -1, -1, -1) for each in states)
                )
            inputs["attention_mask"] = torch.cat([mask.new_ones(len(rows), shared), mask], 1)
        positions = (mask.cumsum(1) - 1).clamp(min=0) + shared
        for row in rows:
            self._begin(row)
        return self._scores(cache, position_ids=positions, **inputs), cache

    def step(self, rows: Sequence[DecodingRow], cache: RowCache) -> Tensor:
        """The scores (rows x vocabulary) of the token behind each row's last one."""
        device = self._model.device
        tokens = torch.tensor([[row.ids[-1]] for row in rows], device=device)
        mask = cache.begin_step(device)
        return self._scores(
            cache, input_ids=tokens, attention_mask=mask, position_ids=cache.ends[:, None]
        )

    def choose(
        self, rows: Sequence[DecodingRow], scores: Tensor
    ) -> list[Generated | ClipError | None]:
        """Give each row its next token; returns the answers of those that have ended."""
        is_finite = scores.amax(dim=-1).isfinite()
        for row, own in zip(rows, scores, strict=True):
            if row.restraints:
                own[:] = row.restraints(row.seen, own[None])[0]
        if self._settings.do_sample:
            scores = self._warpers(None, scores)
            tokens = draw(scores, [row.stream for row in rows])[:, 0]
        else:
            tokens = scores.argmax(dim=-1)
        chosen = torch.stack([tokens, is_finite]).tolist()  # one wait for the device
        return [self._take(row, *each) for row, *each in zip(rows, *chosen, strict=True)]

    def _begin(self, row: DecodingRow) -> None:
        row.ids, row.stream = [], torch.Generator().manual_seed(row.seed)
        device = self._model.device
        known = [] if isinstance(row.prompt, Tensor) else list(row.prompt)
        row.restraints = restraints(self._settings, self._tokenizer, len(known), device)
        row.seen = torch.tensor([known], dtype=torch.long, device=device)

    def _scores(self, cache: Cache, **inputs: Any) -> Tensor:
        with last_logits_only(self._model) as only:
            inputs |= {CACHE_ARGUMENT: cache, "use_cache": True}
            logits = self._model(**inputs, **only).logits
        return logits[:, -1].to(torch.float32, copy=True)

    def _take(self, row: DecodingRow, token: int, is_finite: int) -> Generated | ClipError | None:
        if not is_finite:
            return self._not_finite(row.prompt)
        row.ids.append(token)
        if row.restraints:
            row.seen = torch.cat([row.seen, row.seen.new_tensor([[token]])], 1)
        has_ended = token in self._tokenizer.stop_ids or self._reader.has_stop(row.ids)
        if has_ended or len(row.ids) >= row.limit:
            return self._reader.read(row.ids[: row.limit], len(row.prompt))
        return None
