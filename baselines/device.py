"""Device and precision of a model, and the GPU memory of this process."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ovmer.baselines.errors import PrerequisiteError

if TYPE_CHECKING:
    from ovmer.baselines.checkpoint import Loading
    from ovmer.baselines.llm_folder import LlmFolder


DTYPES = ("float32", "float16", "bfloat16")
"""Data types that models run in."""


@dataclass(frozen=True)
class Placement:
    """Device and floating-point type of a model's weights."""

    device: torch.device
    dtype: torch.dtype
    llm_folder: "LlmFolder | None" = None
    """Where the language model goes instead of the device, its input embeddings excepted."""
    loading: "Loading | None" = None
    """The checkpoint's parts, what the user leaves aside of them, and notes on their files."""
    others: tuple[torch.device, ...] = ()
    """GPUs beside `device` that hold a part of the language model."""
    remedy: str = ""
    """Settings that help where the device has no room for the weights; "" where none does."""


GIB = 2**30
WORKING = 3 * GIB // 2
"""For what passes through the layers, CUDA's own share included."""


_share = 1.0


def limit_memory(share: float) -> None:
    """Let this process take at most this share of each GPU's memory: others have the rest.

    torch raises its out-of-memory error beyond it; estimates, and vLLM's share, follow.
    """
    global _share
    _share = share
    for index in range(torch.cuda.device_count()):
        torch.cuda.set_per_process_memory_fraction(share, index)


def memory_share() -> float:
    """The share of each GPU that this process may take (see `limit_memory`)."""
    return _share


def free_memory(device: torch.device) -> int | None:
    """Bytes of a GPU's memory that this process can still take; None for other devices."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    kept, used = torch.cuda.memory_reserved(device), torch.cuda.memory_allocated(device)
    return min(free + kept - used, int(_share * total) - used)


def memory_of(device: torch.device) -> int | None:
    """Bytes of memory that this process may have of a GPU; None for other devices."""
    return int(_share * torch.cuda.mem_get_info(device)[1]) if device.type == "cuda" else None


def check_room(weights: int, device: torch.device, remedy: str) -> None:
    """Raises PrerequisiteError where a GPU's free memory is less than `weights` bytes and the work
    on a clip take. It is the least that is needed: a batch that takes more is halved."""
    free = free_memory(device)
    if free is not None and free < weights + WORKING:
        raise too_small(
            f"the weights take {gib(weights)} and a clip about {gib(WORKING)} more, but "
            f"{gib(free)} of {device} are free",
            remedy,
        )


def too_small(why: str, remedy: str) -> PrerequisiteError:
    """The error for a GPU without room; `remedy` is added to those that always help."""
    return PrerequisiteError(
        f"the GPU is too small: {why}; end what else is on it, {remedy}or use a larger GPU"
    )


def gib(size: float) -> str:
    """Bytes as people read them."""
    return f"{size / GIB:.1f} GiB"


def resolve(
    device: str = "auto", dtype: str = "auto", gpus: int = 1, at: str = "engine"
) -> Placement:
    """`auto` is the first GPU in float16, as the papers ran, or else the CPU in float32.

    `gpus` counts the device and those behind it; messages name `at`, the key of the engine's
    settings. On a GPU it also makes torch's choices for what runs there (see `_prepare_cuda`).
    Raises PrerequisiteError for a device that is not there or not supported, and for an unknown
    type.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        where = torch.device(device)
    except RuntimeError:
        raise PrerequisiteError(f"{device!r} is no torch device; use auto, cpu or cuda:N") from None
    if where.type not in ("cpu", "cuda"):
        raise PrerequisiteError(
            f"machine.device={device} is not supported: models run on CUDA GPUs (ROCm's too) and "
            "on the CPU; use auto, cpu or cuda:N"
        )
    if where.type == "cuda" and (where.index or 0) >= torch.cuda.device_count():
        raise PrerequisiteError(
            f"machine.device={device} was asked for but torch sees {torch.cuda.device_count()} "
            "GPUs; use auto or cpu"
        )
    if dtype == "auto":
        dtype = "float32" if where.type == "cpu" else "float16"
    if dtype not in DTYPES:
        raise PrerequisiteError(
            f"{dtype!r} is no data type that models run in; use auto, {', '.join(DTYPES)}"
        )
    others = _behind(where, gpus, f"{at}.gpus")
    if where.type == "cuda":
        _prepare_cuda()
    key = "machine.dtype" if at == "engine" else "extractor.dtype"
    remedy = f"set {key}=float16, {at}.quantization=4bit or {at}.gpus=2, "
    return Placement(where, getattr(torch, dtype), others=others, remedy=remedy)


def _behind(device: torch.device, gpus: int, key: str) -> tuple[torch.device, ...]:
    """The GPUs behind `device` that make `gpus`, the setting `key`, with it.

    Raises PrerequisiteError where there are fewer.
    """
    if gpus == 1:
        return ()
    seen = torch.cuda.device_count() if device.type == "cuda" else 0
    first = device.index or 0
    if first + gpus > seen:
        behind = f" from {device} on" if first else ""
        raise PrerequisiteError(
            f"{key}={gpus} was asked for but torch sees {seen - first} GPUs{behind}; lower {key}, "
            "or name more in CUDA_VISIBLE_DEVICES"
        )
    return tuple(torch.device("cuda", first + index) for index in range(1, gpus))


def _prepare_cuda() -> None:
    # cuDNN's attention gives wrong results with few KV heads on Blackwell (torch 2.11 to 2.13,
    # https://github.com/pytorch/pytorch/issues/193893); the other backends are as fast.
    torch.backends.cuda.enable_cudnn_sdp(False)
    # torch's default lets convolutions in float32 compute in TF32, with 10 bits of mantissa.
    torch.backends.cudnn.allow_tf32 = False


def attention_backends() -> list[str]:
    """The backends of scaled dot-product attention that torch may choose from on a GPU."""
    enabled = torch.backends.cuda
    return [
        name
        for name, is_enabled in (
            ("flash", enabled.flash_sdp_enabled()),
            ("efficient", enabled.mem_efficient_sdp_enabled()),
            ("cudnn", enabled.cudnn_sdp_enabled()),
            ("math", enabled.math_sdp_enabled()),
        )
        if is_enabled
    ]
