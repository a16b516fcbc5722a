"""One checkpoint and one folder of clips through each engine: `python -m tests.benchmarks.peers`.

    one by one     `generate` of transformers, a clip at a time: the way of the authors' scripts
    padded         `generate` of transformers in padded batches, decoding beside it
    transformers   engine=transformers
    vllm           engine=vllm, where it is installed
    lmms-eval      its own adapter, by `--lmms-eval PYTHON` of an environment that has it
                   (tests/benchmarks/_lmms.py)

Each way decodes, encodes and answers the same clips with the same random weights (a Llama behind
transformers' Video-LLaVA). Ours must say the same words; lmms-eval has frames and a template of its
own, and answers as many tokens. Answers have all 64 tokens (`fixed`), or 20
to 400, evenly spread (`spread`): the prompts hold subtitles of spread lengths, and the length of
prompt and answer together is bounded.

The ways take turns, `--repeats` times; seconds run from the first clip's decoding to the last
answer, without loading. Those that take clip by clip are timed over `--alone` of the clips, as
their rate depends on no number of clips. The table has medians, and in brackets the range over the
repeats, by the clock and by the processor's time: the latter tells more where other work is on the
machine.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import save_file
from transformers import VideoLlavaConfig

from ovmer.adapters.base import Machine
from ovmer.adapters.mllm import Mllm
from ovmer.baselines.checkpoint import CheckpointPart
from ovmer.baselines.decoding.continuous import ContinuousEngine
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.miniature import publish, random_tensors, write_json, write_sentencepiece
from ovmer.baselines.models.video_llava_hf import VideoLlavaHf
from ovmer.runners.describing.pipeline import Pipeline
from ovmer.runners.describing.requests import ClipRequest
from tests import SAMPLE
from tests.adapters.small_mllms import configured
from tests.benchmarks import _lmms

SHORTEST, LONGEST = 20, 400
_NAMES = ((r"^llm\.", "language_model."), (r"^eyes\.video_tower\.", "video_tower.vision_model."))
_PROJECTOR = (r"^eyes\.multi_modal_projector\.", "multi_modal_projector.")

Words = dict[str, str]
Measured = tuple[Words, float, float, float]
"""Words by clip; seconds and seconds of the processor a clip; share of time the model waited."""


def main() -> None:
    """Print a Markdown table for each kind of answers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folder", nargs="?", type=Path, default=SAMPLE / "video", help="of .mp4 files"
    )
    parser.add_argument("--clips", type=int, default=32, help="the files are taken again and again")
    parser.add_argument("--answers", nargs="+", default=["fixed", "spread"])
    parser.add_argument("--tokens", type=int, default=64, help="of a fixed answer")
    parser.add_argument("--alone", type=int, default=8, help="clips for ways without batches")
    parser.add_argument("--batch", type=int, default=12, help="clips of a padded batch")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--layers", type=int, default=12, help="of the language model, 7 M each")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--lmms-eval", type=Path, help="Python of an environment with lmms-eval")
    given = parser.parse_args()
    if not (videos := sorted(given.folder.glob("*.mp4"))):
        raise SystemExit(f"there are no .mp4 files in {given.folder}")
    missing = {
        "vllm": not find_spec("vllm") and "is not installed",
        "lmms-eval": not given.lmms_eval and "needs --lmms-eval PYTHON",
    }
    ways = [way for way in given.ways if not missing.get(way)]
    for way in set(given.ways) - set(ways):
        print(f"{way} {missing[way]}, and is left out", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_checkpoint(Path(folder), given.layers)
        for kind in given.answers:
            settings = GenerationSettings(max_new_tokens=given.tokens, min_new_tokens=given.tokens)
            requests = list(clips(videos, given.clips, spread=kind == "spread"))
            if kind == "spread":
                settings = spread(checkpoint, requests)
            runs: dict[str, list[Measured]] = {way: [] for way in ways}
            for _ in range(given.repeats):
                for way in ways:
                    step = max(len(requests) // given.alone, 1)
                    some = requests[::step] if way in (ALONE, LMMS_EVAL) else requests
                    if way == LMMS_EVAL:
                        tokens = answer_tokens(len(requests), kind, given.tokens)[::step]
                        found = by_lmms_eval(given.lmms_eval, checkpoint, some, tokens)
                    else:
                        found = measured(way, checkpoint, settings, some, given.batch)
                    words, seconds, used, waited = found
                    runs[way].append((words, seconds / len(some), used / len(some), waited))
                    print(f"{kind} {way}: {runs[way][-1][1:]}", file=sys.stderr, flush=True)
            print_table(kind, runs, len(requests))


def write_checkpoint(folder: Path, layers: int) -> Path:
    """Random weights in the published layout, eight frames of 65 positions in each prompt."""
    text = {
        "model_type": "llama",
        "vocab_size": 464,
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": layers,
        "num_attention_heads": 12,
        "max_position_embeddings": 4096,
    }
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": 192,
        "intermediate_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 3,
        "image_size": 112,
        "patch_size": 14,
        "projection_dim": 16,
    }
    config = {"model_type": "video_llava", "image_token_index": 400, "video_token_index": 401}
    config |= {"text_config": text, "vision_config": vision}
    write_sentencepiece(folder / "tokenizer.model")
    write_json(folder / "config.json", config)
    model = VideoLlavaHf(VideoLlavaConfig.from_dict(config))
    tensors = publish(random_tensors(model, seed=0), (*_NAMES, _PROJECTOR))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def clips(videos: Sequence[Path], count: int, *, spread: bool) -> Iterator[ClipRequest]:
    """So many clips; with `spread`, the length of their subtitles is spread, in a mixed order."""
    for index, video in enumerate(islice(cycle(videos), count)):
        part = _part(index, count)
        words = "e " * round(part * (LONGEST - SHORTEST) / 2) if spread else "Oh, really?"
        yield ClipRequest(f"{index:05}", video, None, words, (), {})


def _part(index: int, count: int) -> float:
    return (index * 7 % count) / max(count - 1, 1)


def spread(checkpoint: Path, requests: Sequence[ClipRequest]) -> GenerationSettings:
    """Settings under which the longest prompt is answered with the fewest tokens."""
    with loaded(checkpoint, GenerationSettings(max_new_tokens=LONGEST), "transformers") as adapter:
        longest = max(requests, key=lambda each: len(each.subtitle or ""))
        item = adapter.prepare(longest.video, None, longest.subtitle)
        (encoded,) = adapter.encode([item])
    assert not isinstance(encoded, Exception)
    return GenerationSettings(
        max_new_tokens=LONGEST,
        min_new_tokens=LONGEST,
        max_length=encoded.tokens - LONGEST + SHORTEST,
    )


@contextmanager
def loaded(checkpoint: Path, settings: GenerationSettings, engine: str) -> Iterator[Mllm]:
    adapter = configured("video_llava_hf")
    adapter = replace(
        adapter,
        checkpoint={"model": CheckpointPart(path=str(checkpoint))},
        generation=settings,
    )
    with tempfile.TemporaryDirectory() as cache:
        adapter.load(Machine(device="cpu", engine={"name": engine, "cache": cache}))
        try:
            yield adapter
        finally:
            adapter.close()


def measured(
    way: str,
    checkpoint: Path,
    settings: GenerationSettings,
    requests: Sequence[ClipRequest],
    batch: int,
) -> Measured:
    """Describe the clips in one of the ways; seconds of them all."""
    keeps_generate = patch.object(ContinuousEngine, "supports", lambda *_: False)
    with nullcontext() if WAYS[way] else keeps_generate:
        engine = "vllm" if way == "vllm" else "transformers"
        with loaded(checkpoint, settings, engine) as adapter:
            size = {ALONE: 1, "padded": batch}.get(way, 64)
            started, used = time.perf_counter(), time.process_time()
            if way == ALONE:
                words, waited = _one_by_one(adapter, requests), 0.0
            else:
                pipeline = Pipeline(adapter, seed=0, batch_size=size, workers=2, strict=True)
                found = {each.name: each for each in pipeline.describe(requests)}
                words = {name: each.description for name, each in found.items()}
                waited = pipeline.speed.waited / pipeline.speed.seconds
            seconds, used = time.perf_counter() - started, time.process_time() - used
    return words, seconds, used, waited


ALONE, LMMS_EVAL = "one by one", "lmms-eval"
WAYS = {
    ALONE: False,
    "padded": False,
    "transformers": True,
    "vllm": True,
    LMMS_EVAL: False,
}
"""By name: whether its engine does without `generate` of transformers."""


def answer_tokens(count: int, kind: str, fixed: int) -> list[int]:
    """How many tokens our ways answer to each clip; with `spread` within a few tokens."""
    if kind != "spread":
        return [fixed] * count
    return [LONGEST - round(_part(index, count) * (LONGEST - SHORTEST)) for index in range(count)]


def by_lmms_eval(
    python: Path, checkpoint: Path, requests: Sequence[ClipRequest], tokens: Sequence[int]
) -> Measured:
    """Describe the clips with lmms-eval, in a process of its environment."""
    prompt = configured("video_llava_hf").prompt
    clips = [
        {
            "video": str(each.video),
            "question": prompt.about(each.subtitle),
            "tokens": count,
        }
        for each, count in zip(requests, tokens, strict=True)
    ]
    asked = {"checkpoint": str(checkpoint), "clips": clips, "threads": torch.get_num_threads()}
    _lmms.add_processor(str(checkpoint))
    command = [str(python), _lmms.__file__]
    done = subprocess.run(command, input=json.dumps(asked), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"lmms-eval failed in {python}; its error is above")
    found = json.loads(done.stdout.splitlines()[-1])
    words = dict(zip((each.name for each in requests), found["answers"], strict=True))
    return words, found["seconds"], found["processor"], 0.0


def _one_by_one(adapter: Mllm, requests: Sequence[ClipRequest]) -> Words:
    words = {}
    for request in requests:
        assert request.video is not None
        words[request.name] = adapter.describe(request.video, None, request.subtitle)
    return words


def print_table(kind: str, runs: dict[str, list[Measured]], count: int) -> None:
    """Medians, ratios to `padded` (to the first way without that), and whether words are equal."""
    base = "padded" if "padded" in runs else next(iter(runs))
    print(f"\n{count} clips, {kind} answers, {torch.get_num_threads()} threads, float32\n")
    print(f"| way | clips/s | by the clock / {base} | by processor time | waited | words |")
    print("|---|---|---|---|---|---|")
    for way, found in runs.items():
        clock = [a[1] / b[1] for a, b in zip(runs[base], found, strict=True)]
        processor = [a[2] / b[2] for a, b in zip(runs[base], found, strict=True)]
        rate = 1 / statistics.median(each[1] for each in found)
        waited = statistics.median(each[3] for each in found)
        same = [found[0][0][name] == runs[base][0][0][name] for name in found[0][0]]
        compared = "equal" if all(same) else f"{sum(same)} of {len(same)} equal"
        compared = "of its own" if way == LMMS_EVAL else compared
        print(
            f"| {way} | {rate:.2f} | {_range(clock)} | {_range(processor)} | {waited:.0%} "
            f"| {compared} |"
        )


def _range(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


if __name__ == "__main__":
    main()
