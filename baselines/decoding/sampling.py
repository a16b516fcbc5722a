"""Sampling with a random stream per clip.

transformers draws all rows of a batch from one global generator, so a clip's words would depend on
its neighbours. Here each row draws one number per step from its own stream, whose start is the
clip's seed, and takes the token at that point of the cumulative distribution. Batch size, order,
padding and a resume leave the words as they are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.tokenizer import Tokenizer


class FiniteScores(LogitsProcessor):
    """Notes the rows whose scores are NaN or infinite; float16 overflows so. Changes nothing.

    The largest score of a row is finite unless one is NaN or +inf, or all are -inf (single -inf
    are tokens that other processors forbid). Nothing is copied from the device until `rows`.
    """

    def __init__(self) -> None:
        self._is_finite: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        is_finite = scores.amax(dim=-1).isfinite()
        self._is_finite = is_finite if self._is_finite is None else self._is_finite & is_finite
        return scores

    def rows(self, prompts: int) -> list[bool]:
        """Whether all scores of each prompt's rows (one, or one per beam) were finite."""
        if self._is_finite is None:
            return [True] * prompts
        return self._is_finite.view(prompts, -1).all(dim=1).tolist()


def draw(scores: Tensor, streams: Sequence[torch.Generator]) -> Tensor:
    """One token per row (rows x 1), each drawn with its row's own stream.

    `scores` (rows x vocabulary) are the warped logits of the next token.
    """
    draws = [torch.rand((), generator=stream, dtype=torch.float64) for stream in streams]
    cumulative = scores.double().softmax(dim=-1).cumsum(dim=-1)
    targets = torch.stack(draws)[:, None].to(scores.device) * cumulative[:, -1:]
    token = torch.searchsorted(cumulative, targets, right=True)
    return token.clamp_(max=scores.shape[-1] - 1)  # scores that are NaN must not crash a GPU


class DrawPerRow(LogitsProcessor):
    """Leaves one token per row, as `draw` chooses it."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self._streams = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        token = draw(scores, self._streams)
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)


class PresencePenalty(LogitsProcessor):
    """Lowers the score of every token that the answer already holds, as vLLM and OpenAI do."""

    def __init__(self, penalty: float, known: int) -> None:
        """`known` ids of each row are the prompt's, which are not penalised."""
        self._penalty, self._known = penalty, known

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        said = torch.zeros_like(scores).scatter_(1, input_ids[:, self._known :], self._penalty)
        return scores - said


def penalties(settings: GenerationSettings, known: int) -> list[LogitsProcessor]:
    """Logits processors against repetition; the first `known` ids of each row are the prompt's.

    (`generate` would add most of it, with a warning that it sees no prompt where that is given as
    embeddings; it has no presence penalty.)
    """
    chain: list[LogitsProcessor] = []
    if settings.repetition_penalty != 1.0:
        chain.append(RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
    if settings.presence_penalty != 0.0:
        chain.append(PresencePenalty(settings.presence_penalty, known))
    if settings.no_repeat_ngram_size > 0:
        chain.append(NoRepeatNGramLogitsProcessor(settings.no_repeat_ngram_size))
    return chain


def restraints(
    settings: GenerationSettings, tokenizer: Tokenizer, known: int, device: torch.device
) -> LogitsProcessorList:
    """All that forbids or weakens tokens in view of earlier ones, in transformers' order.

    `known` of these are the prompt's.
    """
    ends = torch.tensor(list(tokenizer.stop_ids), device=device)
    chain = LogitsProcessorList()
    if words := bad_words_ids(settings, tokenizer):
        chain.append(NoBadWordsLogitsProcessor(words, ends))
    if least := settings.min_new_tokens:
        chain.append(MinNewTokensLengthLogitsProcessor(known, least, ends, device=device))
    return LogitsProcessorList([*chain, *penalties(settings, known)])


def bad_words_ids(settings: GenerationSettings, tokenizer: Tokenizer) -> list[list[int]]:
    """The tokens of each text that must not come."""
    return [tokenizer.encode(word) for word in settings.bad_words]


def warpers(settings: GenerationSettings) -> list[LogitsProcessor]:
    """Temperature, top-k, top-p and min-p in transformers' order."""
    chain: list[LogitsProcessor] = []
    if settings.temperature != 1.0:
        chain.append(TemperatureLogitsWarper(settings.temperature))
    if settings.top_k > 0:
        chain.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1.0:
        chain.append(TopPLogitsWarper(settings.top_p))
    if settings.min_p > 0.0:
        chain.append(MinPLogitsWarper(settings.min_p))
    return chain
