"""Encoding beside generating: a CUDA stream of its own, and copies that nobody waits for.

Inside `with SideStream(device)` what is started on a GPU runs beside the default stream, on which
the language model generates; at the end of the block it is complete. On other devices nothing
changes. An adapter keeps one for all its clips: torch caches memory by stream, so that each new one
would hold the encoder's peak once more.
"""

from contextlib import ExitStack
from dataclasses import fields, is_dataclass, replace
from functools import cached_property
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class SideStream:
    """A stream beside the default one, without gradients; entered by one thread at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._is_cuda = device.type == "cuda"
        self._entered = ExitStack()

    @cached_property
    def _stream(self) -> "torch.cuda.Stream":
        return torch.cuda.Stream(self._device)

    def __enter__(self) -> Self:
        self._entered.enter_context(torch.inference_mode())
        if self._is_cuda:
            self._entered.enter_context(torch.cuda.stream(self._stream))
        return self

    def __exit__(self, *raised: object) -> None:
        self._entered.close()
        if self._is_cuda:
            self._stream.synchronize()  # waits without the interpreter's lock

    def moved(self, inputs: Any) -> Any:
        """`inputs` with its CPU tensors on the GPU, by pinned memory, while the host goes on."""
        if not self._is_cuda:
            return inputs
        return _each_tensor(inputs, lambda x: x.pin_memory().to(self._device, non_blocking=True))

    def kept(self, outputs: T) -> T:
        """`outputs`, whose memory the default stream is going to read: not to be given to others
        before that is done (`record_stream`)."""
        if self._is_cuda:
            default = torch.cuda.default_stream(self._device)
            _each_tensor(outputs, lambda x: x.record_stream(default) or x)
        return outputs


def to_device(inputs: Any, device: torch.device) -> Any:
    """`inputs` with its tensors on a device; unlike in `SideStream`, gradients may flow."""
    return _each_tensor(inputs, lambda tensor: tensor.to(device))


def _each_tensor(value: Any, change: Any) -> Any:
    """`value` with each of its tensors changed, in lists, tuples, dicts and dataclasses."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _each_tensor(each, change) for key, each in value.items()}
    if isinstance(value, list) or type(value) is tuple:
        return type(value)(_each_tensor(each, change) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        names = [each.name for each in fields(value) if each.init]
        return replace(
            value, **{name: _each_tensor(getattr(value, name), change) for name in names}
        )
    return value
