"""Each port and chat yaml as a miniature: device and half precision against float32 on a CPU."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
import yaml
from torch import Tensor, finfo, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from ovmer.adapters import registry
from ovmer.adapters.base import AUDIO, VIDEO, Answer, Machine, Prepared
from ovmer.adapters.mllm import Mllm
from ovmer.baselines.decoding.continuous import ContinuousEngine
from ovmer.baselines.decoding.sampling import FiniteScores
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.config import CONF
from tests import SAMPLE
from tests.adapters.small_mllms import configured
from tests.gpu.table import FAIL, NOTE, SKIPPED, Row

CLIPS = (("farewell", "Why now?"), ("good_news", None))
NEW_TOKENS = 6
HALVES = ("float16", "bfloat16")
_TIMES = 8
"""By how much computing in half precision may differ more than rounding the weights alone does.

Rounded weights are one error of each product of matrices. Its inputs and output, and the norms,
activations and sums around it, are rounded too, some ten times: independent errors add up as the
root of their squares (3 to 4 times one of them), and the larger of two clips is up to twice that.
Random weights amplify both kinds alike, so there is no bound for all models, but one for each:
Gemma 4, whose attention has no scale but that of trained norms, amplifies most.
"""
_LEAST = 16
"""Of the type's rounding errors (2^-11, 2^-8): what is always allowed."""
_FLOAT32 = 1e-3
"""Of a card's float32 against the CPU's. Its rounding error of 2^-24, amplified as that of half
precision is (up to 150 times), stays below 1e-5; TF32 rounds as float16 does: 0.001 to 0.02."""
_JUMPS = ("chat_univi",)
"""Models whose tokens are merged by comparing distances (in float32, as in the original). Of tokens
that round otherwise, one in four is merged with others in float16, every other in bfloat16, which
changes the prompt: a difference has no bound."""


@cache
def names() -> list[str]:
    """The baselines that run a model of ours or of transformers."""
    found = {path.stem: yaml.safe_load(path.read_text()) for path in (CONF / "baseline").glob("*")}
    return [
        name
        for name, content in sorted(found.items())
        if "adapter" in content and issubclass(registry.get(content["adapter"]), Mllm)
    ]


@dataclass(frozen=True)
class Seen:
    """What a loaded miniature said of each clip, alone and in a batch, and its first scores."""

    scores: list[Tensor]
    alone: list[str]
    together: list[str]


def check(device: str, only: str = "") -> Iterator[Row]:
    """Two rows or three a model: each data type on the device."""
    for name in names():
        if only not in name:
            continue
        with TemporaryDirectory() as folder:
            try:
                yield from _of_model(name, device, Path(folder))
            except PrerequisiteError as error:
                yield Row("models", name, SKIPPED, str(error))
            except Exception as error:  # a model that fails says nothing of the next
                yield Row("models", name, FAIL, f"{type(error).__name__}: {error}"[:200])
        gc.collect()


def _of_model(name: str, device: str, folder: Path) -> Iterator[Row]:
    adapter = configured(name)
    generation = replace(adapter.generation, max_new_tokens=NEW_TOKENS)
    small = replace(adapter, generation=generation).miniature(folder)
    reference, amplified = _reference(small)
    if device == "cpu":
        yield _batch_row(name, "float32", reference)
    else:
        seen = _look(small, Machine(device=device, dtype="float32"))
        error = _largest(reference.scores, seen.scores)
        text = f"scores differ by {error:.1e} (at most {_FLOAT32:.0e})"
        yield Row.of("models", f"{name} float32", error < _FLOAT32, text)
        yield _batch_row(name, "float32", seen)
    for dtype in HALVES:
        seen = _look(small, Machine(device=device, dtype=dtype))
        yield _half_row(name, dtype, reference, amplified, seen)


def _half_row(name: str, dtype: str, reference: Seen, amplified: float, seen: Seen) -> Row:
    error = _largest(reference.scores, seen.scores)
    unit = _unit(dtype)
    bound = unit * max(_TIMES * amplified, _LEAST)
    same = sum(a == b for a, b in zip(seen.alone, seen.together, strict=True))
    text = (
        f"scores differ by {error:.1e} (at most {bound:.1e}: rounded weights alone give "
        f"{unit * amplified:.1e}); {same} of {len(CLIPS)} answers alike in a batch"
    )
    item = f"{name} {dtype}"
    if name in _JUMPS and error < float("inf"):
        return Row("models", item, NOTE, text)
    return Row.of("models", item, error < bound, text)


def _unit(dtype: str) -> float:
    """The relative error of one rounding to a type."""
    return float(finfo(getattr(torch, dtype)).eps) / 2


def _largest(true: list[Tensor], found: list[Tensor]) -> float:
    return max(_error(*each) for each in zip(true, found, strict=True))


def _error(true: Tensor, found: Tensor) -> float:
    """The largest difference as a share of the largest score; infinite for one that is NaN.

    Tokens that may not come have -inf in both.
    """
    counted = true.isfinite()
    if not found[counted].isfinite().all():
        return float("inf")
    return float((found - true)[counted].abs().max() / true[counted].abs().max())


def _batch_row(name: str, dtype: str, seen: Seen) -> Row:
    alike = seen.alone == seen.together
    return Row.of("batches", f"{name} {dtype}", alike, "each clip as alone" if alike else "differ")


def _reference(adapter: Mllm) -> tuple[Seen, float]:
    """What the CPU says in float32, and by how much the model amplifies a rounding error.

    The latter by weights rounded to bfloat16 in float32 arithmetic (a miniature's weights are
    numbers of float16 as they are).
    """
    adapter.load(Machine(device="cpu", dtype="float32"))
    try:
        items = [_prepared(adapter, *clip) for clip in CLIPS]
        scores, alone = _alone(adapter, items)
        reference = Seen(scores, alone, _answers(adapter, items))
        rounding = register_module_forward_pre_hook(_round_weights)
        try:
            rounded, _ = _alone(adapter, items)
        finally:
            rounding.remove()
        return reference, _largest(scores, rounded) / _unit("bfloat16")
    finally:
        adapter.close()


def _round_weights(module: nn.Module, given: object) -> None:
    """Of a module that is about to be called, its own; they stay in float32."""
    for weight in module.parameters(recurse=False):
        weight.data.copy_(weight.data.to(torch.bfloat16))


def _look(adapter: Mllm, machine: Machine) -> Seen:
    adapter.load(machine)
    try:
        items = [_prepared(adapter, *clip) for clip in CLIPS]
        scores, alone = _alone(adapter, items)
        return Seen(scores, alone, _answers(adapter, items))
    finally:
        adapter.close()


def _alone(adapter: Mllm, items: list[Prepared]) -> tuple[list[Tensor], list[str]]:
    """First scores and answer of each clip, asked by itself."""
    scores, answers = list[Tensor](), list[str]()
    for item in items:
        with _first_scores() as first:
            answers += _answers(adapter, [item])
        scores.append(first[0])
    return scores, answers


def _prepared(adapter: Mllm, clip: str, subtitle: str | None) -> Prepared:
    video, audio = SAMPLE / "video" / f"{clip}.mp4", SAMPLE / "audio" / f"{clip}.wav"
    uses = adapter.modalities
    return adapter.prepare(
        video if VIDEO in uses else None, audio if AUDIO in uses else None, subtitle
    )


def _answers(adapter: Mllm, items: list[Prepared]) -> list[str]:
    found = adapter.generate(list(adapter.encode(items)))
    for each in found:
        if isinstance(each, Exception):
            raise each
    return [each.thinking + each.text if isinstance(each, Answer) else each for each in found]


@contextmanager
def _first_scores() -> Iterator[list[Tensor]]:
    """Scores of the first token, row by row, in float32 on the CPU; from either engine in torch."""
    kept: list[Tensor] = []
    notes, choose = FiniteScores.__call__, ContinuousEngine.choose

    def keep(scores: Tensor) -> None:
        if not kept:
            kept.append(scores[0].float().cpu())

    def noting(self: FiniteScores, input_ids: Tensor, scores: Tensor) -> Tensor:
        keep(scores)
        return notes(self, input_ids, scores)

    def choosing(self: ContinuousEngine, rows: Any, scores: Tensor) -> Any:
        keep(scores)
        return choose(self, rows, scores)

    with (
        mock.patch.object(FiniteScores, "__call__", noting),
        mock.patch.object(ContinuousEngine, "choose", choosing),
    ):
        yield kept
