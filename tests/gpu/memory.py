"""A sweep on a card that is nearly full, and what the encoders keep of a card."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ovmer.adapters.base import Machine
from ovmer.adapters.mllm import Mllm
from ovmer.baselines.device import limit_memory, resolve
from ovmer.runners.describing.pipeline import Pipeline
from ovmer.runners.describing.requests import ClipRequest
from tests import SAMPLE
from tests.adapters.small_mllms import configured
from tests.gpu.table import SKIPPED, Row

CLIPS = 64
BATCHES = 40
VIDEO = SAMPLE / "video" / "farewell.mp4"
_MB = 2**20


def check(device: str) -> Iterator[Row]:
    """Clips that are lost under pressure, and reserved memory over many calls of the encoder."""
    where = resolve(device).device
    with TemporaryDirectory() as folder:
        adapter = configured("video_llava").miniature(Path(folder))
        adapter.load(Machine(device=device, dtype="float32"))
        try:
            if where.type == "cuda":
                yield _streams(adapter, where)
                yield _pressure(adapter, where)
            else:
                yield Row("streams", f"{BATCHES} batches", SKIPPED, "memory of a card is meant")
                yield Row("pressure", f"{CLIPS} clips", SKIPPED, "memory of a card is meant")
        finally:
            adapter.close()


def _streams(adapter: Mllm, device: torch.device) -> Row:
    reserved = []
    for number in range(BATCHES):
        items = [adapter.prepare(VIDEO, None, f"clip {number}") for _ in range(4)]
        adapter.encode(items)
        reserved.append(torch.cuda.memory_reserved(device))
    early, late = reserved[4] / _MB, reserved[-1] / _MB
    found = f"{early:.0f} MB reserved after 5 batches, {late:.0f} MB after {BATCHES}"
    return Row.of("streams", f"{BATCHES} batches", late <= 1.1 * early + 32, found)


def _pressure(adapter: Mllm, device: torch.device) -> Row:
    """With so little memory that neither a whole batch fits, nor much beside one."""
    small = replace(adapter.generation, max_new_tokens=16)
    adapter.generation = small
    expected = _described(adapter)
    torch.cuda.empty_cache()
    held = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    adapter.generate(list(adapter.encode([adapter.prepare(VIDEO, None, None)])))
    alone = torch.cuda.max_memory_allocated(device) - held
    total = torch.cuda.mem_get_info(device)[1]
    torch.cuda.empty_cache()
    try:
        limit_memory((held + 4 * alone + 16 * _MB) / total)
        found = _described(adapter)
    finally:
        limit_memory(1.0)
    statuses = Counter(status for status, _ in found.values())
    same = sum(found[name] == expected[name] for name in expected)
    text = f"{dict(statuses)} with {4 * alone // _MB + 16} MB; {same} answers as with all of it"
    return Row.of("pressure", f"{CLIPS} clips", statuses["ok"] == CLIPS == same, text)


def _described(adapter: Mllm) -> dict[str, tuple[str, str]]:
    pipeline = Pipeline(adapter, seed=0, batch_size=CLIPS, workers=2)
    requests = [ClipRequest(f"clip{n:02}", VIDEO, None, f"{n}", (), {}) for n in range(CLIPS)]
    return {each.name: (str(each.status), each.description) for each in pipeline.describe(requests)}
