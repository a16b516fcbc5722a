"""A forward pass that computes shapes alone, through code that looks at some of its inputs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

_META = torch.device("meta")
_ATEN = torch.ops.aten
_INDEXED = (_ATEN.index.Tensor, _ATEN.index_put.default, _ATEN.index_put_.default)


class Shapes(TorchDispatchMode):
    """Whatever meets a tensor of the meta device becomes one; ids, grids and masks stay real.

    Models count placeholders and split patches by such values. A truth value that hangs on weights
    is taken as true: it asks whether a mask may be left out.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        tensors = [each for each in tree_leaves((args, given)) if isinstance(each, Tensor)]
        if all(each.device != _META for each in tensors):
            if given.get("device") == _META:
                given["device"] = torch.device("cpu")
            return func(*args, **given)
        if func is _ATEN._local_scalar_dense.default:
            return True
        if func in _INDEXED:
            args = (args[0], _positions(args[1]), *args[2:])
        if "device" in given:
            given["device"] = _META
        args, given = tree_map(_moved, (args, given))
        return func(*args, **given)


def _moved(value: Any) -> Any:
    return value.to(_META) if isinstance(value, Tensor) else value


def _positions(indices: Sequence[Tensor | None]) -> list[Tensor | None]:
    """A real mask as the positions where it is true: the meta device cannot count them."""
    found: list[Tensor | None] = []
    for each in indices:
        is_mask = each is not None and each.dtype == torch.bool and each.device != _META
        found += list(each.nonzero(as_tuple=True)) if each is not None and is_mask else [each]
    return found
