"""Rates of decoding alone: `python -m tests.benchmarks.generation [--device cuda --shapes 7b ...]`.

A language model with random weights answers prompts of embeddings, 64 new tokens each: one prompt
at a time (the way of the authors' scripts), in padded batches, and in vLLM. Loading and the start
of vLLM are left out; a few prompts go first to warm up. Of one by one, a part is timed (`--alone`),
since its rate hangs on no number of clips. On a GPU `--shapes 7b` has the sizes of Video-LLaVA:
Vicuna 7B, 2056 places of video and a question in each prompt.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from ovmer.baselines.decoding.answers import Engine
from ovmer.baselines.decoding.continuous import transformers_engine
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.decoding.vllm_engine import VllmEngine
from ovmer.baselines.device import Placement, resolve
from ovmer.baselines.llama import llama_config
from tests.baselines.test_decoding import Letters

NEW_TOKENS = 64
WARM_UP = 4
SETTINGS = GenerationSettings(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)


@dataclass(frozen=True)
class Shapes:
    vocabulary: int
    width: int
    inner: int
    layers: int
    heads: int
    shortest: int
    longest: int
    """Of the prompts, in tokens."""

    def model(self, placement: Placement) -> LlamaForCausalLM:
        sizes = {
            "vocab_size": self.vocabulary,
            "hidden_size": self.width,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "max_position_embeddings": 4096,
        }
        torch.manual_seed(0)
        with placement.device:
            return LlamaForCausalLM(llama_config(sizes)).to(placement.dtype).eval()

    def prompts(self, count: int, placement: Placement) -> list[Tensor]:
        stream = torch.Generator().manual_seed(1)
        lengths = torch.randint(self.shortest, self.longest + 1, (count,), generator=stream)
        return [
            0.02 * torch.randn(length, self.width, generator=stream).to(placement.dtype)
            for length in lengths.tolist()
        ]


SHAPES = {
    "100m": Shapes(8000, 768, 2048, 12, 12, 40, 96),
    "7b": Shapes(32000, 4096, 11008, 32, 32, 2100, 2200),
}


def main() -> None:
    """Print the three rates and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", help="bfloat16 on a GPU")
    parser.add_argument("--shapes", default="100m", choices=SHAPES)
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--alone", type=int, default=16, help="clips that are timed one by one")
    parser.add_argument("--batch", type=int, default=64, help="clips of a padded batch")
    given = parser.parse_args()
    placement, shapes = resolve(given.device, given.dtype), SHAPES[given.shapes]
    prompts = shapes.prompts(given.clips + WARM_UP, placement)
    with tempfile.TemporaryDirectory() as folder:
        model = shapes.model(placement)
        size = sum(each.numel() for each in model.parameters())
        print(f"{size / 1e6:.0f} M parameters, {given.dtype}, {given.device}", flush=True)
        model.save_pretrained(folder)
        engine = transformers_engine(model, Letters(), SETTINGS)
        alone = _rate("one by one", engine, prompts[: given.alone + WARM_UP], 1)
        padded = _rate(f"padded batches of {given.batch}", engine, prompts, given.batch)
        print(f"padded batches / one by one {padded / alone:.1f} (at least 3)", flush=True)
        del model, engine
        options = {"dtype": given.dtype, "max_model_len": 4096}
        vllm = VllmEngine(VllmEngine.start(Path(folder), options), Letters(), SETTINGS)
        streamed = _rate("vLLM", vllm, prompts, len(prompts))
        vllm.close()
    print(f"vLLM / padded batches {streamed / padded:.1f} (at least 2)")


def _rate(what: str, engine: Engine, prompts: Sequence[Tensor], batch: int) -> float:
    """Clips a second; each of them has NEW_TOKENS new ones."""
    engine.generate(prompts[:WARM_UP], range(WARM_UP))
    timed, count = prompts[WARM_UP:], 0
    started = time.perf_counter()
    for start in range(0, len(timed), batch):
        rows = timed[start : start + batch]
        answers = engine.generate(rows, range(len(rows)))
        count += sum(each.new_tokens for each in answers)  # type: ignore[union-attr]
    seconds = time.perf_counter() - started
    if count != NEW_TOKENS * len(timed):
        raise SystemExit(f"{what}: {count} new tokens")
    clips = len(timed) / seconds
    print(f"{what:24} {clips:7.2f} clips/s {count / seconds:8.0f} tokens/s", flush=True)
    return clips


if __name__ == "__main__":
    main()
