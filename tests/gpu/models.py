"""Each port and chat yaml as a miniature: device and half precision against float32 on a CPU."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from torch import Tensor

from ovmer.adapters import registry
from ovmer.adapters.base import AUDIO, VIDEO, Answer, Machine, Prepared
from ovmer.adapters.mllm import Mllm
from ovmer.baselines.decoding.sampling import FiniteScores
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.config import CONF
from tests.adapters.media_files import SAMPLE
from tests.adapters.small_mllms import configured
from tests.gpu.table import FAIL, SKIPPED, Row

CLIPS = (("farewell", "Why now?"), ("good_news", None))
NEW_TOKENS = 6
BOUNDS = {"float32": 0.01, "bfloat16": 0.5, "float16": 0.1}
"""Largest difference of the first token's scores, as a share of the largest score. Random weights
amplify rounding (8 bits in bfloat16, 11 in float16); on a CPU all models stay within a third."""


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
    adapter = configured(name).miniature(folder)
    small = replace(adapter, generation=replace(adapter.generation, max_new_tokens=NEW_TOKENS))
    small._llm_cache = adapter._llm_cache
    reference = _look(small, Machine(device="cpu", dtype="float32"))
    dtypes = ["float16", "bfloat16"] if device == "cpu" else ["float32", "float16", "bfloat16"]
    if device == "cpu":
        yield _batch_row(name, "float32", reference)
    for dtype in dtypes:
        seen = _look(small, Machine(device=device, dtype=dtype))
        yield _error_row(name, dtype, reference, seen)
        if dtype == "float32":
            yield _batch_row(name, dtype, seen)


def _error_row(name: str, dtype: str, reference: Seen, seen: Seen) -> Row:
    errors = [_error(*each) for each in zip(reference.scores, seen.scores, strict=True)]
    same = sum(a == b for a, b in zip(seen.alone, seen.together, strict=True))
    found = f"scores differ by {max(errors):.1e}; {same} of {len(CLIPS)} answers alike in a batch"
    return Row.of("models", f"{name} {dtype}", max(errors) < BOUNDS[dtype], found)


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


def _look(adapter: Mllm, machine: Machine) -> Seen:
    adapter.load(machine)
    try:
        items = [_prepared(adapter, *clip) for clip in CLIPS]
        scores, alone = [], list[str]()
        for item in items:
            with _first_scores() as first:
                alone += _answers(adapter, [item])
            scores.append(first[0])
        return Seen(scores, alone, _answers(adapter, items))
    finally:
        adapter.close()


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
    """Scores of the first token, row by row, in float32 on the CPU."""
    kept: list[Tensor] = []
    notes = FiniteScores.__call__

    def keeping(self: FiniteScores, input_ids: Tensor, scores: Tensor) -> Tensor:
        if not kept:
            kept.append(scores[0].float().cpu())
        return notes(self, input_ids, scores)

    FiniteScores.__call__ = keeping  # type: ignore[method-assign]
    try:
        yield kept
    finally:
        FiniteScores.__call__ = notes  # type: ignore[method-assign]
