"""Rates and memory of the engines: 7B shapes with random weights on a card, small ones on a CPU."""

import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from ovmer.baselines.decoding.answers import Generated
from ovmer.baselines.decoding.continuous import ContinuousEngine, transformers_engine
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.device import GIB, Placement, memory_of, resolve
from tests.baselines.test_decoding import Letters
from tests.benchmarks.generation import SHAPES, Shapes
from tests.gpu.table import NOTE, SKIPPED, Row

NEW_TOKENS = 64
SETTINGS = GenerationSettings(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
_SMALL = Shapes(8000, 256, 512, 4, 4, 40, 96)


def check(device: str) -> Iterator[Row]:
    """Clips a second one by one, in batches and in vLLM; whether the estimate of a batch fits."""
    placement = resolve(device, "float32" if device == "cpu" else "bfloat16")
    on_card = placement.device.type == "cuda"
    size = (memory_of(placement.device) or 0) / GIB
    if on_card and size < 22:
        yield Row("engines", "7B", SKIPPED, f"{size:.0f} GiB are too little for 7B in bfloat16")
        return
    shapes, clips = (SHAPES["7b"], 64) if on_card else (_SMALL, 16)
    item = "7B" if on_card else "4 layers"
    model = shapes.model(placement)
    prompts = [each.to(placement.device) for each in shapes.prompts(clips, placement)]
    engine = ContinuousEngine(model, Letters(), SETTINGS)
    yield from _transformers(engine, prompts, placement, item)
    if find_spec("vllm") is None:
        yield Row("engines", f"{item}, vLLM", SKIPPED, "vLLM is not installed")
        return
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        del model, engine
        gc.collect()
        if on_card:
            torch.cuda.empty_cache()
        yield _vllm(Path(folder), [each.cpu() for each in prompts], placement, item)


def _transformers(
    engine: ContinuousEngine, prompts: Sequence[Tensor], placement: Placement, item: str
) -> Iterator[Row]:
    engine.generate(prompts[:1], [0])  # warms up
    started = time.perf_counter()
    for prompt in prompts[:4]:
        engine.generate([prompt], [0])
    yield _rate(f"{item}, one by one", 4, started, placement)

    longest = max(map(len, prompts)) + NEW_TOKENS
    size = max(1, engine.batch_tokens // longest) if engine.batch_tokens else len(prompts)
    started = time.perf_counter()
    answers = [each for _, each in engine.stream(enumerate((prompt, 0) for prompt in prompts))]
    yield _rate(f"{item}, batches of {min(size, len(prompts))}", len(prompts), started, placement)
    lost = sum(not isinstance(each, Generated) for each in answers)
    fitted = engine.shrunk_to is None
    text = f"{lost} clips lost; {'it fits' if fitted else f'halved to {engine.shrunk_to}'}"
    estimate = f"batches for {engine.batch_tokens or 'any number of'} tokens"
    yield Row.of("memory", f"{item}, {estimate}", fitted and not lost, text)


def _vllm(folder: Path, prompts: Sequence[Tensor], placement: Placement, item: str) -> Row:
    from ovmer.baselines.decoding.vllm_engine import VllmEngine

    options = {"dtype": str(placement.dtype).removeprefix("torch."), "max_model_len": 4096}
    engine = VllmEngine(VllmEngine.start(folder, options), Letters(), SETTINGS)
    try:
        engine.generate(prompts[:4], [0] * 4)
        started = time.perf_counter()
        engine.generate(prompts, [0] * len(prompts))
        return _rate(f"{item}, vLLM", len(prompts), started, placement)
    finally:
        engine.close()


def _rate(item: str, clips: int, started: float, placement: Placement) -> Row:
    seconds = time.perf_counter() - started
    text = f"{clips / seconds:.2f} clips/s, {clips * NEW_TOKENS / seconds:.0f} new tokens/s"
    if placement.device.type == "cuda":
        text += (
            f", {torch.cuda.max_memory_allocated(placement.device) / GIB:.1f} GiB by torch at most"
        )
    return Row("engines", item, NOTE, text)


def check_runners(device: str) -> Iterator[Row]:
    """vLLM's two model runners, each in a process of its own, against transformers in float32."""
    if find_spec("vllm") is None:
        yield Row("runners", "vLLM", SKIPPED, "vLLM is not installed")
        return
    placement = resolve(device, "float32")
    shapes = _SMALL
    with TemporaryDirectory() as folder:
        model = shapes.model(placement)
        model.save_pretrained(folder)
        prompts = shapes.prompts(8, placement)
        torch.save(prompts, Path(folder) / "prompts.pt")
        settings = GenerationSettings(max_new_tokens=12)
        engine = transformers_engine(model, Letters(), settings)
        expected = [
            list(each.ids) if isinstance(each, Generated) else []
            for each in engine.generate(
                [each.to(placement.device) for each in prompts], [0] * len(prompts)
            )
        ]
        for runner in ("0", "1"):
            item = "the newer runner" if runner == "1" else "the runner in use"
            if runner == "1" and placement.device.type == "cpu":
                yield Row("runners", item, SKIPPED, "it needs Triton on a card")
                continue
            yield _runner(item, runner, Path(folder), expected)


def _runner(item: str, runner: str, folder: Path, expected: list[list[int]]) -> Row:
    command = [sys.executable, "-c", _ASK, str(folder)]
    environment = os.environ | {"VLLM_USE_V2_MODEL_RUNNER": runner}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    lines = [line for line in done.stdout.splitlines() if line.startswith("answers ")]
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["no words"])[-1]
        # The newer one is not what runs use.
        return Row("runners", item, NOTE if runner == "1" else "FAIL", f"did not run: {last[:150]}")
    found = [[int(word) for word in row.split()] for row in lines[0][8:].split(";")]
    same = sum(a == b for a, b in zip(found, expected, strict=True))
    text = f"{same} of {len(expected)} greedy answers are those of transformers"
    return Row.of("runners", item, same == len(expected), text)


_ASK = """
import sys
from pathlib import Path
import torch
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.decoding.vllm_engine import VllmEngine
from tests.baselines.test_decoding import Letters
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    prompts = torch.load(folder / "prompts.pt", weights_only=True)
    options = {"dtype": "float32", "max_model_len": 1024}
    settings = GenerationSettings(max_new_tokens=12)
    engine = VllmEngine(VllmEngine.start(folder, options), Letters(), settings)
    found = engine.generate(prompts, [0] * len(prompts))
    print("answers " + ";".join(" ".join(map(str, each.ids)) for each in found))
    engine.close()
"""
