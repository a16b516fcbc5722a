"""Published weight files -> the tensors of a module, strictly and without a second copy in memory.

A checkpoint is a dict of `LazyTensor` (`ovmer.baselines.weight_files`): names and shapes are known,
data is read when asked for.
What a port has to say about a file is a table of renames, applied to that dict:

    KEYS = (
        (r"rotary_emb\\.inv_freq$", None),              # None: known, and not used
        (r"^model\\.mm_projector\\.", "projector."),
        (r"^(model|lm_head)\\.", r"llm.\\1."),
    )
    with weightless():
        model = VideoLlava(config)
    load_strict(model, rename(read_tensors(folder), KEYS), placement)

Guarantee: every tensor of the files is used or listed as unused, every tensor of the module is
filled, and shapes agree; else CheckpointError names the first ones that do not. Host memory peaks
at the module's own size (on a GPU: nothing) plus some hundred megabytes, also where the data type
changes.
"""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import RLock
from typing import cast

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from ovmer.baselines.checkpoint import Loading
from ovmer.baselines.device import Placement, check_room
from ovmer.baselines.device_map import Spread, check_each, connect, device_of, spread
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.lora import with_adapter
from ovmer.baselines.weight_files import LazyTensor, Tensors
from ovmer.baselines.weight_index import patterns, some, summary

_MOST_PATTERNS = 6
"""Of tensors to ignore, in a message."""

Renames = Sequence[tuple[str, str | None]]


class ForeignTensor(str):
    """Used in a table of renames instead of a replacement: why a tensor whose name matches is a
    sign of another model. It stays, so that loading refuses it unless the user ignores it."""


def check_heads(tensor: LazyTensor, width: int, heads: int) -> None:
    """Raises CheckpointError where a width that was read off `tensor` does not go into the heads,
    of whose number weights say nothing."""
    if width % heads:
        raise CheckpointError(
            f"{tensor.source} has shape {list(tensor.shape)}, and {width} does not go into {heads} "
            "heads; is it the right file?"
        )


def rename(tensors: Tensors, table: Renames) -> Tensors:
    """Each key with all regular expressions of the table substituted, in the table's order.

    A key that matches an expression whose replacement is None is left out, and so is the second
    name of one and the same tensor in a torch file.
    """
    found: Tensors = {}
    for published, tensor in tensors.items():
        key = renamed(published, table)
        if key is None:
            if tensor.origin is not None:
                tensor.origin.unused.append(tensor.key)
            continue
        if reason := _reason(published, table):
            tensor = replace(tensor, reason=reason)
        if key in found and tensor.stored is not None and tensor.stored == found[key].stored:
            continue
        if key in found:
            raise CheckpointError(f"{tensor.source} and {found[key].source} both stand for {key}")
        found[key] = tensor
    return found


def renamed(key: str, table: Renames) -> str | None:
    """One key after all substitutions of the table; None where the table drops it."""
    for pattern, replacement in table:
        if isinstance(replacement, ForeignTensor):
            continue
        if replacement is not None:
            key = re.sub(pattern, replacement, key)
        elif re.search(pattern, key):
            return None
    return key


def _reason(key: str, table: Renames) -> str:
    """Why a model refuses the published key; empty where it does not."""
    for pattern, replacement in table:
        if isinstance(replacement, ForeignTensor) and re.search(pattern, key):
            return str(replacement)
    return ""


def renames(pairs: Sequence[tuple[str, str]]) -> Renames:
    """The table that turns the first name of each pair, a module's, into the second.

    `*` is a layer's number. As no name is an expression, a table of pairs can be turned round.
    """
    return tuple(
        ("^" + re.escape(old).replace(r"\*", r"(\d+)") + r"\b", new.replace("*", r"\1"))
        for old, new in pairs
    )


def join(*parts: Tensors) -> Tensors:
    """The tensors of several parts together. (`a | b` is for a part that overrides an earlier one.)

    Raises CheckpointError if two parts are the same tensor.
    """
    joined: Tensors = {}
    for part in parts:
        for key in sorted(part.keys() & joined.keys()):
            raise CheckpointError(f"{joined[key].source} and {part[key].source} are both {key}")
        joined.update(part)
    return joined


def rows(tensor: LazyTensor, part: slice) -> LazyTensor:
    """A range of a tensor's rows (first dimension); nothing is read yet."""
    if not tensor.shape:
        raise CheckpointError(f"{tensor.source} is a single number; is it the right file?")
    count = len(range(tensor.shape[0])[part])
    return replace(tensor, shape=(count, *tensor.shape[1:]), read=lambda: tensor.read()[part])


def split(tensors: Tensors, fused: str, parts: Sequence[str]) -> Tensors:
    """Each tensor named `....fused....` as several named for the parts, of equally many rows.

    Attention often keeps queries, keys and values in one; `miniature.fuse` is the way back.
    """
    found: Tensors = {}
    for name, tensor in tensors.items():
        if f".{fused}." not in name:
            found[name] = tensor
            continue
        height, rest = divmod(tensor.shape[0] if tensor.shape else 0, len(parts))
        if rest or not height:
            raise CheckpointError(
                f"{tensor.source} has shape {list(tensor.shape)}, which is not {', '.join(parts)} "
                "of equally many rows; is it the right file?"
            )
        for index, part in enumerate(parts):
            own = slice(index * height, (index + 1) * height)
            found[name.replace(f".{fused}.", f".{part}.")] = rows(tensor, own)
    return found


_PATCHING = RLock()


@contextmanager
def weightless() -> Iterator[None]:
    """Modules made inside have parameters without data (meta device) and real buffers.

    So tables that a module computes for itself, such as rotary frequencies, are right.
    """
    # Both patch torch's classes for the whole process: two threads that left in another order than
    # that in which they came would leave the patches behind.
    with _PATCHING, init_empty_weights(include_buffers=False), no_init_weights():
        yield


def load_strict(module: nn.Module, tensors: Tensors, placement: Placement) -> None:
    """Fill a module made `weightless`, tensor by tensor, straight in the target type and device.

    Floating-point tensors become `placement.dtype`; buffers that the files lack keep theirs.
    `tensors` is used up. Afterwards the module is in evaluation mode and frozen. With
    `placement.llm_folder` the weights of `module.llm` go there, and here all but its input
    embeddings stay weightless. Raises CheckpointError where files and module disagree,
    PrerequisiteError where a GPU is too small.

    With `placement.loading` the tensors that the user ignores are dropped, adapters are merged into
    the language model, and notes on the files are added to it.
    """
    loading = placement.loading or Loading({}, {})
    loading.notes += _about_files(tensors, loading)
    for folder in loading.adapters:
        tensors = with_adapter(tensors, folder, module)
        loading.note_adapter(folder)
    _leave_aside(module, tensors, loading)
    _compare(module, tensors, loading)
    if placement.device.type == "meta":  # to see whether the files fit, without their data
        return
    if placement.llm_folder is not None:
        placement.llm_folder.keep(module.llm, _llm_of(module, tensors), placement.dtype)
    where = _spread(module, tensors, placement)
    for name in list(tensors):
        _place(module, name, tensors.pop(name).read(), device_of(name, where), placement.dtype)
    for path, owner in module.named_modules():
        for name, buffer in owner.named_buffers(recurse=False):
            setattr(owner, name, buffer.to(device_of(f"{path}.{name}", where)))
    if placement.others and placement.llm_folder is None:
        below = {name.removeprefix("llm."): device for name, device in where.items() if name}
        connect(cast(PreTrainedModel, module.llm), below)
        loading.notes.append(f"spread over {1 + len(placement.others)} GPUs, in padded batches")
    module.eval().requires_grad_(False)


def _spread(module: nn.Module, tensors: Tensors, placement: Placement) -> Spread:
    """The device of everything; only the language model is spread over several.

    Raises PrerequisiteError where the GPUs are too small.
    """
    if not placement.others or placement.llm_folder is not None:
        check_room(_bytes(tensors, placement.dtype), placement.device, placement.remedy)
        return {"": placement.device}
    llm = cast(PreTrainedModel, module.llm)
    beside = _bytes({k: v for k, v in tensors.items() if not k.startswith("llm.")}, placement.dtype)
    where = spread(llm, (placement.device, *placement.others), placement.dtype, beside)
    check_each(llm, where, placement, beside)
    return {"": placement.device} | {f"llm.{name}": device for name, device in where.items()}


def _bytes(tensors: Tensors, dtype: torch.dtype) -> int:
    return dtype.itemsize * sum(math.prod(tensor.shape) for tensor in tensors.values())


def _llm_of(module: nn.Module, tensors: Tensors) -> Tensors:
    """The tensors of `module.llm` by their names in it; all but the embeddings leave `tensors`."""
    llm: PreTrainedModel = module.llm
    words = llm.get_input_embeddings().weight
    stay = {
        name for name, value in module.named_parameters(remove_duplicate=False) if value is words
    }
    names = [name for name in tensors if name.startswith("llm.")]
    return {
        name.removeprefix("llm."): tensors[name] if name in stay else tensors.pop(name)
        for name in names
    }


def _about_files(tensors: Tensors, loading: Loading) -> list[str]:
    origins = {id(each.origin): each.origin for each in tensors.values() if each.origin}
    notes = []
    for file in origins.values():
        unused = [f"{summary(file.unused)} not used by this model"] if file.unused else []
        name = loading.label(file.path)
        notes += [f"{name}: {note}" for note in (*file.notes, *unused)]
    return notes


def _leave_aside(module: nn.Module, tensors: Tensors, loading: Loading) -> None:
    unexpected = tensors.keys() - module.state_dict().keys()
    left = [name for name in unexpected if loading.ignores(tensors[name].key, tensors[name].files)]
    if left:
        keys = summary(sorted(tensors.pop(name).key for name in left))
        loading.notes.append(f"{keys} left aside, as the setting ignore says")


def _compare(module: nn.Module, tensors: Tensors, loading: Loading) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    model = type(module).__name__
    if not tensors:
        raise CheckpointError(f"the checkpoint holds no tensor for {model}")
    if unexpected := sorted(tensors.keys() - expected.keys()):
        first = tensors[unexpected[0]]
        part = loading.part_of(first.files)
        keys = [tensors[n].key for n in unexpected if loading.part_of(tensors[n].files) == part]
        ignored = list(patterns(keys))
        if len(ignored) > _MOST_PATTERNS:
            ignored = sorted({f"{key.partition('.')[0]}*" for key in keys})
        raise CheckpointError(
            f"{model} has no place for {some(tensors[name].source for name in unexpected)}"
            f"{first.reason and ': '}{first.reason}; is this the checkpoint of that model? If it "
            "is, and they do not matter, add "
            f"'+baseline.checkpoint.{part or 'PART'}.ignore=[{','.join(ignored)}]'"
        )
    if missing := expected.keys() - tensors.keys():
        files = _files_of_kin(min(missing), tensors)
        raise CheckpointError(
            f"{model} needs {some(missing)}, which should be in {some(files)} but is not; "
            "is the checkpoint complete?"
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name]:
            raise CheckpointError(
                f"{tensor.source} has shape {list(tensor.shape)} but {model} as its configuration "
                f"has it needs {list(expected[name])}; do config and weights belong together?"
            )


def _files_of_kin(name: str, tensors: Tensors) -> set[str]:
    """The files that hold what is nearest to a missing tensor in the module's tree."""
    path = name.split(".")
    for depth in range(len(path) - 1, -1, -1):
        start = "".join(f"{part}." for part in path[:depth])
        if files := {each.file for key, each in tensors.items() if key.startswith(start)}:
            return files
    return set()


def _place(
    module: nn.Module, name: str, data: Tensor, device: torch.device, dtype: torch.dtype
) -> None:
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    kind = dtype if data.is_floating_point() else data.dtype
    placed = torch.empty(data.shape, dtype=kind, device=device).copy_(data)
    if leaf in owner._parameters:
        setattr(owner, leaf, nn.Parameter(placed, requires_grad=False))
    else:
        setattr(owner, leaf, placed)
