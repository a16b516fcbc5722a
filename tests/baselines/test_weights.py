"""Strict loading: every published form gives the same module; whatever is wrong is named."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from ovmer.baselines.device import WORKING, Placement
from ovmer.baselines.errors import CheckpointError, PrerequisiteError
from ovmer.baselines.miniature import random_tensors, write_torch_shards
from ovmer.baselines.weight_files import read_entry, read_tensors
from ovmer.baselines.weights import join, load_strict, rename, weightless
from tests import processes

CPU = torch.device("cpu")
KEYS = ((r"inv_freq$", None), (r"^old\.", ""))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.second = nn.Linear(8, 2, bias=False)
        self.register_buffer("steps", torch.arange(3))
        self.register_buffer("table", torch.linspace(0, 1, 5), persistent=False)


def published() -> dict[str, Tensor]:
    tensors = random_tensors(Net(), seed=1) | {"steps": torch.tensor([7, 8, 9])}
    return {f"old.{name}": tensor for name, tensor in tensors.items()} | {
        "rotary.inv_freq": torch.ones(2)
    }


def one_safetensors(folder: Path) -> Path:
    save_file(published(), folder / "model.safetensors")
    return folder


def safetensors_shards(folder: Path) -> Path:
    tensors = published()
    names = list(tensors)
    index = {}
    for number, part in enumerate((names[:2], names[2:])):
        save_file({name: tensors[name] for name in part}, folder / f"{number}.safetensors")
        index |= dict.fromkeys(part, f"{number}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def one_torch(folder: Path) -> Path:
    torch.save(published(), folder / "pytorch_model.bin")
    return folder


def torch_shards(folder: Path) -> Path:
    write_torch_shards(folder, published(), shards=2)
    return folder


def torch_of_before_2020(folder: Path) -> Path:
    file = folder / "weights.bin"
    torch.save(published(), file, _use_new_zipfile_serialization=False)
    return file


FORMS = (one_safetensors, safetensors_shards, one_torch, torch_shards, torch_of_before_2020)


@pytest.mark.parametrize("write", FORMS, ids=lambda write: write.__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_form_gives_the_same_module(
    write: Callable[[Path], Path], dtype: torch.dtype, tmp_path: Path
) -> None:
    with weightless():
        net = Net()
    load_strict(net, rename(read_tensors(write(tmp_path)), KEYS), Placement(CPU, dtype))
    for name, value in net.state_dict().items():
        golden = published()[f"old.{name}"]
        assert torch.equal(value, golden.to(dtype) if golden.is_floating_point() else golden), name
    assert net.first.weight.dtype == dtype
    assert torch.equal(net.table, torch.linspace(0, 1, 5))
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_state_dict_nested_in_a_training_checkpoint(tmp_path: Path) -> None:
    content = {"model": published(), "epoch": 3, "cfg": {"layers": 12}}
    torch.save(content, tmp_path / "trained.pth")
    tensors = read_tensors(tmp_path / "trained.pth", inner="model")
    assert list(tensors) == list(published())
    assert read_entry(tmp_path / "trained.pth", "cfg") == {"layers": 12}
    assert list(read_tensors(tmp_path / "trained.pth")) == list(published())
    with pytest.raises(CheckpointError, match=r"trained\.pth holds nothing under 'args'"):
        read_entry(tmp_path / "trained.pth", "args")


def test_rotary_tables_are_computed_not_left_without_data() -> None:
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=50,
    )
    with weightless():
        model = LlamaForCausalLM(config)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    right = LlamaForCausalLM(config).model.rotary_emb.inv_freq
    assert torch.equal(model.model.rotary_emb.inv_freq, right)


def _load(tensors: dict[str, Tensor], folder: Path) -> None:
    torch.save(tensors, folder / "pytorch_model.bin")
    with weightless():
        net = Net()
    load_strict(net, rename(read_tensors(folder), KEYS), Placement(CPU, torch.float32))


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    extra = published() | {"old.third.weight": torch.ones(1)}
    with pytest.raises(CheckpointError, match=r"Net has no place for .*bin: old\.third\.weight"):
        _load(extra, tmp_path)
    lacking = {name: value for name, value in published().items() if "second" not in name}
    with pytest.raises(CheckpointError, match=r"needs second\.weight.*pytorch_model\.bin"):
        _load(lacking, tmp_path)
    crooked = published() | {"old.second.weight": torch.ones(8, 2)}
    with pytest.raises(CheckpointError, match=r"old\.second\.weight has shape \[8, 2\].*\[2, 8\]"):
        _load(crooked, tmp_path)
    double = published() | {"second.weight": torch.ones(2, 8)}
    with pytest.raises(CheckpointError, match=r"both stand for second\.weight"):
        _load(double, tmp_path)


def test_parts_join_or_override(tmp_path: Path) -> None:
    first, second = (
        read_tensors(one_torch(_made(tmp_path / "a"))),
        read_tensors(one_torch(_made(tmp_path / "b"))),
    )
    with pytest.raises(CheckpointError, match=r"a/pytorch_model\.bin: old.* and .*b/pytorch_model"):
        join(first, second)
    assert (first | second)["old.first.bias"].source.startswith(str(tmp_path / "b"))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def lost_shard(folder: Path) -> str:
    torch_shards(folder)
    (folder / "pytorch_model-00002-of-00002.bin").unlink()
    return r"lacks the shard pytorch_model-00002-of-00002\.bin"


def torn_torch(folder: Path) -> str:
    one_torch(folder)
    _cut(folder / "pytorch_model.bin")
    return r"pytorch_model\.bin is half downloaded"


def torn_safetensors(folder: Path) -> str:
    one_safetensors(folder)
    _cut(folder / "model.safetensors")
    return r"model\.safetensors is half downloaded"


def web_page(folder: Path) -> str:
    (folder / "pytorch_model.bin").write_text("<!DOCTYPE html>\n<html>Sign in</html>")
    return r"pytorch_model\.bin is a web page"


def lfs_pointer(folder: Path) -> str:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid ..")
    return r"model\.safetensors is a git-lfs pointer.*git lfs pull"


def nothing_inside(folder: Path) -> str:
    (folder / "pytorch_model.bin").write_bytes(b"")
    return r"pytorch_model\.bin is empty"


def noise(folder: Path) -> str:
    (folder / "pytorch_model.bin").write_bytes(bytes(range(256)) * 8)
    return r"pytorch_model\.bin"


def no_index(folder: Path) -> str:
    (folder / "pytorch_model.bin.index.json").write_text("[]")
    return r"pytorch_model\.bin\.index\.json is no index of shards"


def no_weights(folder: Path) -> str:
    return r"has no weights"


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


BROKEN = (
    lost_shard,
    torn_torch,
    torn_safetensors,
    web_page,
    lfs_pointer,
    nothing_inside,
    noise,
    no_index,
    no_weights,
)


@pytest.mark.parametrize("breaks", BROKEN, ids=lambda breaks: breaks.__name__)
def test_broken_files_are_named_in_one_sentence(
    breaks: Callable[[Path], str], tmp_path: Path
) -> None:
    message = breaks(tmp_path)
    with pytest.raises(CheckpointError, match=message) as error:
        read_tensors(tmp_path)
    assert "\n" not in str(error.value)


MEASURE = """
import sys
from pathlib import Path
import torch
from torch import nn
from ovmer.baselines import weight_files, weights
from ovmer.baselines.device import Placement

def memory(field):
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(field + ":")[1].split()[0])

with weights.weightless():
    net = nn.Sequential(*(nn.Linear(2048, 2048, bias=False) for _ in range(24)))
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # forget the highest level so far
tensors = weight_files.read_tensors(Path(sys.argv[1]))
weights.load_strict(net, tensors, Placement(torch.device("cpu"), torch.float32))
size = sum(parameter.nbytes for parameter in net.parameters())
print((memory("VmHWM") - before) / size)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's counters")
@pytest.mark.parametrize("form", ["torch", "safetensors"])
def test_no_second_copy_in_memory(form: str, tmp_path: Path) -> None:
    """400 MB as float32, read from files in half precision: peak over the module's own size."""
    tensors = {f"{i}.weight": torch.zeros(2048, 2048, dtype=torch.half) for i in range(24)}
    if form == "torch":
        write_torch_shards(tmp_path, tensors, shards=2)
    else:
        save_file(tensors, tmp_path / "model.safetensors")
    done = processes.run([str(tmp_path)], tmp_path, program=partial(exec, MEASURE, {}))
    assert 0.95 <= float(done.stdout) <= 1.15, done.stderr


def test_a_gpu_that_is_too_small_is_reported_before_a_weight_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file({"weight": torch.zeros(2**10, 2**10)}, tmp_path / "model.safetensors")
    tensors = read_tensors(tmp_path)
    with weightless():
        net = nn.Linear(2**10, 2**10, bias=False)
    placement = Placement(torch.device("cpu"), torch.float16)
    monkeypatch.setattr("ovmer.baselines.device.free_memory", lambda device: WORKING + 2**21 - 1)
    with pytest.raises(PrerequisiteError, match=r"weights take 0\.0 GiB and a clip about 1\.5 GiB"):
        load_strict(net, tensors, placement)
    assert net.weight.is_meta
    monkeypatch.setattr("ovmer.baselines.device.free_memory", lambda device: WORKING + 2**21)
    load_strict(net, tensors, placement)
