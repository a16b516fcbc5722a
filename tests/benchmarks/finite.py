"""What the check for NaN costs the engines: `python -m tests.benchmarks.finite [--pairs 20 ...]`.

The language model of `tests.benchmarks.generation` answers the same prompts with the check and
without it, in turn, in one process; printed are each pair's ratio and their median, of CPU time on
a CPU, of time on a GPU. The defaults are for some minutes on two idle cores. In transformers the
check is a look at each row's largest score, in vLLM the probability of each chosen token.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from unittest import mock

import vllm
from torch import Tensor

from ovmer.baselines.decoding.answers import Engine
from ovmer.baselines.decoding.sampling import FiniteScores
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.decoding.transformers_engine import TransformersEngine
from ovmer.baselines.decoding.vllm_engine import VllmEngine
from ovmer.baselines.device import resolve
from tests.baselines.test_decoding import Letters
from tests.benchmarks.generation import SHAPES

ENGINES = ("transformers", "vllm")


def main() -> None:
    """Print one line for each engine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", help="bfloat16 on a GPU")
    parser.add_argument("--shapes", default="100m", choices=SHAPES)
    parser.add_argument("--engines", nargs="+", default=ENGINES, choices=ENGINES)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=32)
    given = parser.parse_args()
    place, shapes = resolve(given.device, given.dtype), SHAPES[given.shapes]
    settings = GenerationSettings(max_new_tokens=given.tokens, min_new_tokens=given.tokens)
    prompts = shapes.prompts(given.clips, place)
    clock = time.process_time if given.device == "cpu" else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        model = shapes.model(place)
        model.save_pretrained(folder)
        if "transformers" in given.engines:
            engine = TransformersEngine(model, Letters(), settings)
            _compare("transformers", engine, prompts, given.pairs, clock)
            del engine
        del model
        if "vllm" in given.engines:
            options = {"dtype": given.dtype, "max_model_len": 4096}
            offline = VllmEngine(VllmEngine.start(Path(folder), options), Letters(), settings)
            _compare("vLLM", offline, prompts, given.pairs, clock)
            offline.close()


def _compare(name: str, engine: Engine, prompts: list[Tensor], pairs: int, clock: Any) -> None:
    def seconds() -> float:
        started = clock()
        engine.generate(prompts, range(len(prompts)))
        return float(clock() - started)

    seconds()  # warms up
    ratios = list[float]()
    for pair in range(pairs):
        found = dict[bool, float]()
        for checked in (pair % 2 == 0, pair % 2 == 1):
            with nullcontext() if checked else _unchecked():
                found[checked] = seconds()
        ratios.append(found[True] / found[False])
        print(
            f"{name:14} pair {pair + 1} of {pairs}: {found[True]:.2f} s with the check, "
            f"{found[False]:.2f} s without: {100 * (ratios[-1] - 1):+.1f} %",
            flush=True,
        )
    low, _, high = quantiles(ratios, n=4)
    print(
        f"{name:14} with the check {100 * (median(ratios) - 1):+.1f} % (quartiles "
        f"{100 * (low - 1):+.1f} .. {100 * (high - 1):+.1f} %, {pairs} pairs; at most 1 %)",
        flush=True,
    )


@contextmanager
def _unchecked() -> Iterator[None]:
    asking = vllm.SamplingParams

    def without(**given: Any) -> Any:
        return asking(**given | {"logprobs": None, "flat_logprobs": False})

    with (
        mock.patch.object(FiniteScores, "__call__", lambda self, ids, scores: scores),
        mock.patch.object(vllm, "SamplingParams", without),
    ):
        yield


if __name__ == "__main__":
    main()
