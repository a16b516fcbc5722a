"""vLLM by embeddings against vLLM by token ids: `python -m tests.benchmarks.embeddings`.

The same random Llama of 100 M parameters, the same prompts, 64 new tokens each: as embeddings in an
engine as the ports start it, and as ids in one as vLLM starts it, prefix caching off in both (the
prompts share nothing). Both take turns, and must say the same words; the ratio is one of the
processor's time. It takes about a minute.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ovmer.baselines.decoding.answers import Generated
from ovmer.baselines.decoding.vllm_engine import VllmEngine
from ovmer.baselines.decoding.vllm_offline import OfflineVllm
from ovmer.baselines.device import resolve
from tests.baselines.test_decoding import Letters
from tests.benchmarks.generation import SETTINGS, SHAPES, WARM_UP


def main() -> None:
    """Print seconds of both, turn by turn, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=400, help="of a prompt")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    shapes, placement = SHAPES["100m"], resolve("cpu", "float32")
    stream = torch.Generator().manual_seed(0)
    ids = torch.randint(
        3, shapes.vocabulary, (given.prompts + WARM_UP, given.tokens), generator=stream
    )
    options = {"dtype": "float32", "max_model_len": 4096, "kv_cache_memory_bytes": 2**30}
    plain = {"skip_tokenizer_init": True, "seed": 0, "enable_prefix_caching": False}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = shapes.model(placement)
        model.save_pretrained(folder)
        with torch.inference_mode():
            vectors = list(model.get_input_embeddings()(ids))
        del model
        by_vectors = VllmEngine(VllmEngine.start(folder, options), Letters(), SETTINGS)
        by_ids = VllmEngine(OfflineVllm(folder, options | plain), Letters(), SETTINGS)
        ratios = []
        by_ids.generate(ids[:WARM_UP].tolist(), range(WARM_UP))
        by_vectors.generate(vectors[:WARM_UP], range(WARM_UP))
        for _ in range(given.repeats):
            words, text = _timed(by_ids, ids[WARM_UP:].tolist())
            others, embedded = _timed(by_vectors, vectors[WARM_UP:])
            assert words == others
            ratios.append(text / embedded)
            print(f"ids {text:.2f} s, embeddings {embedded:.2f} s of the processor", flush=True)
        by_vectors.close()
        by_ids.close()
    print(f"embeddings are {statistics.median(ratios):.2f} times as fast as ids (at least 0.9)")


def _timed(
    engine: VllmEngine, prompts: Sequence[list[int]] | Sequence[Tensor]
) -> tuple[list[str], float]:
    """The words, and seconds of the processor."""
    started = time.process_time()
    answers = engine.generate(prompts, range(len(prompts)))
    seconds = time.process_time() - started
    return [each.text for each in answers if isinstance(each, Generated)], seconds


if __name__ == "__main__":
    main()
