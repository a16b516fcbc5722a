"""How fast clips were described, and what held them up."""

import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ovmer.runners.folder.records import Prediction

_MB = 2**20


@dataclass
class Speed:
    """Counts of one pipeline, or of several that ran side by side."""

    clips: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: float = 0.0
    """On the clock, from the first clip that is decoded to the last answer."""
    waited: float = 0.0
    """Seconds of these in which the generator had nothing to do, the first batch's included."""
    peak_memory: int = 0
    """Bytes of main memory that the process held at most."""
    peak_gpu_memory: int = 0
    """Bytes that torch held at most, on the GPU where it held most; 0 without one."""
    used_gpu_memory: int = 0
    """Bytes in use at the end on the fullest GPU, by all programs, vLLM's engine among them."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time what happens inside, and look at the memory at its end."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started
            self.peak_memory = _peak_memory()
            self.peak_gpu_memory, self.used_gpu_memory = _gpu_memory()

    def add(self, done: Prediction) -> None:
        self.clips += 1
        self.prompt_tokens += done.prompt_tokens or 0
        self.new_tokens += done.new_tokens or 0

    @classmethod
    def together(cls, parts: Sequence["Speed"], seconds: float) -> "Speed":
        """Sum over pipelines that ran side by side for `seconds`; memory is that of the largest."""
        busy = sum(part.seconds for part in parts)
        return cls(
            sum(part.clips for part in parts),
            sum(part.prompt_tokens for part in parts),
            sum(part.new_tokens for part in parts),
            seconds,
            seconds * sum(part.waited for part in parts) / busy if busy else 0.0,
            max((part.peak_memory for part in parts), default=0),
            max((part.peak_gpu_memory for part in parts), default=0),
            max((part.used_gpu_memory for part in parts), default=0),
        )

    def as_json(self) -> dict[str, Any]:
        """The entry in run.json."""
        seconds = self.seconds or 1.0
        return {
            "clips": self.clips,
            "seconds": round(self.seconds, 2),
            "clips_per_second": round(self.clips / seconds, 2),
            "prompt_tokens": self.prompt_tokens,
            "new_tokens": self.new_tokens,
            "new_tokens_per_second": round(self.new_tokens / seconds, 1),
            "generator_waited": round(self.waited / seconds, 3),
            "peak_memory_mb": self.peak_memory // _MB,
            "peak_gpu_memory_mb": self.peak_gpu_memory // _MB,
            "used_gpu_memory_mb": self.used_gpu_memory // _MB,
        }

    def __str__(self) -> str:
        figures = self.as_json()
        words = [f"{figures['clips_per_second']} clips/s"]
        if self.new_tokens:
            words.append(f"{figures['new_tokens_per_second']} new tokens/s")
        words.append(f"the generator waited {figures['generator_waited']:.1%} of the time")
        words.append(f"memory up to {figures['peak_memory_mb']} MB")
        if self.used_gpu_memory:
            words.append(
                f"on the GPU {figures['peak_gpu_memory_mb']} MB by torch, "
                f"{figures['used_gpu_memory_mb']} MB in use by all"
            )
        return ", ".join(words)


def _peak_memory() -> int:
    # Linux counts in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _gpu_memory() -> tuple[int, int]:
    """Bytes that torch held at most on a GPU, and bytes that all programs hold of one now."""
    torch = sys.modules.get("torch")  # if the run did not need it, no GPU took part
    if torch is None or not torch.cuda.is_available():
        return 0, 0
    peaks = [torch.cuda.max_memory_allocated(each) for each in range(torch.cuda.device_count())]
    ours = [device for device, peak in enumerate(peaks) if peak] or [0]
    return int(max(peaks)), max(_used_memory(torch, device) for device in ours)


def _used_memory(torch: Any, device: int) -> int:
    try:
        return int(torch.cuda.device_memory_used(device))  # by NVML, without a context of ours
    except (AttributeError, ImportError, RuntimeError):  # of torch, or of a machine without NVML
        if not torch.cuda.is_initialized():
            return 0
    free, total = torch.cuda.mem_get_info(device)
    return int(total - free)
