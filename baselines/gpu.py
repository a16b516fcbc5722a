"""Detects a GPU without torch, and resolves `dtype=auto`.

Importing torch takes seconds, which a sweep that has nothing left to do should not.
"""

import ctypes
import gc
import os
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version

OWN = "auto"
"""The type of a model that runs in its checkpoint's own."""


def resolve_dtype(dtype: str, device: str, own: str = OWN, on_gpu: bool | None = None) -> str:
    """`auto` is `own` on a GPU and float32 on the CPU; any other type is that type.

    `on_gpu` says whether the machine has a GPU; None asks this one.
    """
    if dtype != "auto":
        return dtype
    if device != "auto":
        return "float32" if device == "cpu" else own
    return own if (has_gpu() if on_gpu is None else on_gpu) else "float32"


@cache
def has_gpu() -> bool:
    """Whether torch would find a GPU here."""
    try:
        build = version("torch").partition("+")[2]
    except PackageNotFoundError:
        return False
    if "torch" in sys.modules or build.startswith("rocm") or os.name == "nt":
        import torch

        return torch.cuda.is_available()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = visible is not None and visible.strip() in ("", "-1", "NoDevFiles")
    return build != "cpu" and not hidden and _nvidia_gpus() > 0


def release_memory() -> None:
    """Give back the GPU memory of models that nobody holds any more, to other processes too."""
    gc.collect()
    if "torch" in sys.modules:
        import torch

        torch.cuda.empty_cache()  # does nothing where CUDA was not used


def _nvidia_gpus() -> int:
    """How many GPUs NVIDIA's management library counts; it starts no CUDA."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return 0
    count = ctypes.c_uint(0)
    if library.nvmlInit_v2() or library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return 0
    library.nvmlShutdown()
    return count.value
