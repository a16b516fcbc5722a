"""Pickles of others are read and never run."""

import argparse
import io
import os
import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ovmer.baselines import inert_pickle
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.inert_pickle import Inert
from ovmer.baselines.weight_files import read_entry, read_tensors


class Runs:
    """Makes a file when it is unpickled by the usual reader."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self._reduced = call, arguments

    def __reduce__(self) -> Any:
        return self._reduced


def hostile(mark: Path) -> list[Any]:
    command = f"touch {mark}"
    return [
        Runs(os.system, command),
        Runs(eval, f"__import__('os').system({command!r})"),
        Runs(exec, f"open({str(mark)!r}, 'w')"),
        Runs(os.mkdir, str(mark)),
        Runs(torch.load, mark),
        Runs(torch._utils._rebuild_tensor_v2, Runs(os.system, command), 0, (1,), (1,), False, {}),
        OrderedDict(a=Runs(os.system, command)),
    ]


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_hostile_file_is_run(number: int, zipped: bool, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    file = tmp_path / "weights.pth"
    content = {"model": {"a": torch.arange(3.0)}, "args": hostile(mark)[number]}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    tensors = read_tensors(file, "model")
    assert torch.equal(tensors["a"].read(), torch.arange(3.0))
    assert not mark.exists()


def test_such_a_file_would_run_elsewhere(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    pickle.loads(pickle.dumps(hostile(mark)[0]))
    assert mark.exists()


def test_objects_become_placeholders_that_keep_what_was_assigned() -> None:
    content = {
        "args": argparse.Namespace(lr=0.1, out=Path("a")),
        "epoch": np.float32(3),
        "meters": defaultdict(list, loss=[1.0]),
    }
    found = inert_pickle.load(io.BytesIO(pickle.dumps(content)))
    assert found["args"]["lr"] == 0.1
    assert found["args"].origin == "argparse.Namespace"
    assert isinstance(found["epoch"], Inert)
    assert found["meters"]["loss"] == [1.0]


def test_every_type_and_view_is_read_as_torch_reads_it(tmp_path: Path) -> None:
    base = torch.arange(24).reshape(4, 6)
    tensors = {
        **{str(kind): base.to(kind) for kind in (torch.float64, torch.bfloat16, torch.int8)},
        "turned": base.T,
        "part": base[1:3, ::2],
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 3),
        "bool": base > 3,
        "float8": base.to(torch.float8_e4m3fn),
        "uint16": base.to(torch.uint16),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "complex": torch.ones(2, dtype=torch.complex64),
    }
    for zipped in (True, False):
        torch.save(tensors, tmp_path / "all.pt", _use_new_zipfile_serialization=zipped)
        found = read_tensors(tmp_path / "all.pt")
        for name, golden in tensors.items():
            data = found[name].read()
            assert data.dtype == golden.dtype, name
            assert data.shape == golden.shape, name
            assert torch.equal(data.to(torch.complex128), golden.to(torch.complex128)), name


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "long.pth"
    torch.save({"a": torch.zeros(2, 7)}, file)
    raw = file.read_bytes()
    assert raw.count(b"K\x02K\x07\x86") == 1  # the shape in the pickle
    file.write_bytes(raw.replace(b"K\x02K\x07\x86", b"K\x02K\x77\x86"))
    with pytest.raises(CheckpointError, match="half downloaded or no weight file"):
        read_tensors(file)


def test_an_entry_of_an_unknown_class_is_read_as_its_attributes(tmp_path: Path) -> None:
    file = tmp_path / "beats.pt"
    torch.save({"cfg": argparse.Namespace(layers=12), "model": {}}, file)
    assert dict(read_entry(file, "cfg")) == {"layers": 12}
