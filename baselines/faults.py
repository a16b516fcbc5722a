"""Classifies device errors by type and message, without importing torch."""

import re

_OUT_OF_MEMORY = re.compile(
    r"out of memory"  # torch's allocators, `CUDA error: out of memory` of the driver, MPS
    r"|CUBLAS_STATUS_ALLOC_FAILED"  # cuBLAS has no room for its workspace
    r"|CUDNN_STATUS_ALLOC_FAILED"
    r"|can't allocate memory",  # torch's allocator for the CPU, a plain RuntimeError
    re.IGNORECASE,
)

# After these the CUDA context is gone and every later call fails with the same error ("CUDA Runtime
# API", cudaError_t: "the process must be terminated and relaunched"). `invalid argument` and its
# like are errors of one call.
_DEVICE_LOST = re.compile(
    r"CUDA error: (?!out of memory|invalid)|CUBLAS_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR)"
    r"|CUDNN_STATUS_EXECUTION_FAILED"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, the host's or a device's; a smaller batch may fit."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(error)))


def is_device_lost(error: BaseException) -> bool:
    """Whether no further call on the device can succeed in this process."""
    return (
        isinstance(error, RuntimeError)
        and not is_out_of_memory(error)
        and bool(_DEVICE_LOST.search(str(error)))
    )
