"""What people do to published files: edits of a checkpoint's part, for the table of verdicts."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

State = dict[str, Any]


Edit = Callable[[Path], None]


@dataclass
class EasyDict(dict):  # as the settings of VideoChat
    """A class that a reader of the file does not have."""


def files(part: Path) -> list[Path]:
    if part.is_file():
        return [part]
    found = [
        file for end in ("*.bin", "*.safetensors", "*.pth", "*.pt") for file in part.rglob(end)
    ]
    return sorted(found)


def read(file: Path) -> Any:
    if file.suffix == ".safetensors":
        return load_file(file)
    # Written by the test itself; some rows put objects of other classes beside the weights.
    return torch.load(file, weights_only=False)


def write(content: Any, file: Path) -> None:
    if file.suffix == ".safetensors":
        save_file({key: tensor.contiguous() for key, tensor in content.items()}, file)
    else:
        torch.save(content, file)


def state_of(content: State) -> State:
    return content["model"] if isinstance(content.get("model"), dict) else content


def tensors(change: Callable[[State], State | None], last: bool = False) -> Edit:
    """Change the state dict of the (first) file of a part."""

    def edit(part: Path) -> None:
        file = files(part)[-1 if last else 0]
        content = read(file)
        state = state_of(content)
        changed = change(state) or state
        write({**content, "model": changed} if state is not content else changed, file)
        index = file.parent / "pytorch_model.bin.index.json"
        if index.is_file() and file.parent == part:
            values = json.loads(index.read_text())
            values["weight_map"] |= dict.fromkeys(changed, file.name)
            index.write_text(json.dumps(values))

    return edit


def add(*names: str, shape: tuple[int, ...] = (3,)) -> Edit:
    return tensors(lambda state: {**state, **{name: torch.ones(shape) for name in names}})


def drop(part_of_name: str) -> Edit:
    def edit(part: Path) -> None:
        for file in files(part):
            content = read(file)
            state = state_of(content)
            for key in [key for key in state if part_of_name in key]:
                del state[key]
            write(content, file)

    return edit


def beside(**entries: Any) -> Edit:
    """Put something beside the state dict."""

    def edit(part: Path) -> None:
        content = read(files(part)[0])
        nested = content if isinstance(content.get("model"), dict) else {"model": content}
        write({**nested, **entries}, files(part)[0])

    return edit


def content(change: Callable[[Any], Any]) -> Edit:
    def edit(part: Path) -> None:
        for file in files(part):
            write(change(read(file)), file)

    return edit


def renamed(old: str, new: str) -> Edit:
    def edit(part: Path) -> None:
        for file in files(part):
            held = read(file)
            state = state_of(held)
            for key in [key for key in state if key.startswith(old)]:
                state[new + key.removeprefix(old)] = state.pop(key)
            write(held, file)

    return edit


def config(change: Callable[[dict[str, Any]], None], name: str = "config.json") -> Edit:
    def edit(part: Path) -> None:
        values = json.loads((part / name).read_text())
        change(values)
        (part / name).write_text(json.dumps(values))

    return edit


def no_index(part: Path) -> None:
    for index in part.glob("*.index.json"):
        index.unlink()


def lose(pattern: str) -> Edit:
    def edit(part: Path) -> None:
        for file in part.glob(pattern):
            file.unlink()

    return edit


def both(*edits: Edit) -> Edit:
    def edit(part: Path) -> None:
        for each in edits:
            each(part)

    return edit


def as_safetensors(part: Path) -> None:
    together = {}
    for file in files(part):
        together |= read(file)
        file.unlink()
    no_index(part)
    save_file(together, part / "model.safetensors")


def older_format(part: Path) -> None:
    for file in files(part):
        torch.save(read(file), file, _use_new_zipfile_serialization=False)


def more_words(part: Path) -> None:
    """A row more than config.json says, in both tables (Vicuna v0's [PAD])."""
    for file in files(part):
        held = read(file)
        for key in held:
            if key.endswith(("embed_tokens.weight", "lm_head.weight")):
                held[key] = torch.cat([held[key], torch.zeros(1, held[key].shape[1])])
        write(held, file)


def fewer_words(count: int) -> Edit:
    """Both tables without their last rows; config.json says what it said."""

    def edit(part: Path) -> None:
        for file in files(part):
            held = read(file)
            for key in held:
                if key.endswith(("embed_tokens.weight", "lm_head.weight")):
                    held[key] = held[key][:count].clone()
            write(held, file)

    return edit


def repeat(old: str, new: str) -> Callable[[State], None]:
    """Tensors under a second name, the storage shared."""

    def change(state: State) -> None:
        for key in [key for key in state if key.startswith(old)]:
            state[new + key.removeprefix(old)] = state[key]

    return change


def cut(part: Path) -> None:
    file = files(part)[0]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def text(words: str) -> Edit:
    return lambda part: files(part)[0].write_text(words) and None


def pickled_model(part: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), files(part)[0])


def rope(settings: dict[str, Any], key: str = "rope_scaling") -> Edit:
    return config(lambda values: values.update({key: settings}))


def section(name: str, kind: str, *left_out: str) -> Edit:
    """A section of config.json as transformers writes it: only what differs from the defaults."""

    def change(values: dict[str, Any]) -> None:
        values[name] = {k: v for k, v in values[name].items() if k not in left_out} | {
            "model_type": kind
        }

    return config(change)


def nulls(*names: str) -> Edit:
    return config(lambda values: values.update(dict.fromkeys(names)))


def block_more(part: Path) -> None:
    """Stage 1 of VideoChat2 with one block more than stage 3."""
    file = part / "umt_l16_qformer.pth"
    state = torch.load(file, weights_only=True)
    start = "vision_encoder.encoder.blocks."
    for key in [key for key in state if key.startswith(f"{start}1.")]:
        state[key.replace("blocks.1.", "blocks.2.")] = state[key].clone()
    torch.save(state, file)
