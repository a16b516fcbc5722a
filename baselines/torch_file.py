"""Reads the structure of a `torch.save` file, without torch and without the tensors' data.

Two containers: a zip archive with a pickle and one uncompressed member for each storage, and before
2020 a chain of pickles with the storages behind them.
"""

import pickle
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ovmer.baselines import inert_pickle
from ovmer.baselines.errors import CheckpointError, first_line
from ovmer.baselines.inert_pickle import ITEM_BYTES, Storage, StoredTensor

_MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of a file of before 2020 (torch.serialization.MAGIC_NUMBER)."""
_LOCAL_HEADER = 30
"""Bytes of a zip member's header before its name; the lengths of name and extra field end it."""


@dataclass(frozen=True)
class TorchFile:
    """`content` is what was saved, its tensors as `StoredTensor`; `starts` are the byte offsets of
    the storages in the file."""

    path: Path
    content: Any
    starts: dict[str, int]

    def start_of(self, tensor: StoredTensor) -> int:
        """Offset in bytes of the tensor's first number in the file."""
        return self.starts[tensor.storage.key] + tensor.offset * ITEM_BYTES[tensor.dtype]


def read_torch_file(path: Path) -> TorchFile:
    """Read the pickles of a file. Raises CheckpointError where it is torn or something else."""
    try:
        with path.open("rb") as stream:
            is_zip = stream.read(4) == b"PK\x03\x04"
            stream.seek(0)
            return _of_zip(path, stream) if is_zip else _of_chain(path, stream)
    except CheckpointError:
        raise
    # Whatever torn or hostile bytes make of a pickle's instructions.
    except Exception as error:
        raise torn(path, error) from error


def torn(file: Path, error: Exception) -> CheckpointError:
    """The error for a file that cannot be read."""
    return CheckpointError(
        f"{file} is half downloaded or no weight file ({first_line(error)}); fetch it again"
    )


def _of_zip(path: Path, stream: IO[bytes]) -> TorchFile:
    storages = dict[str, Storage]()
    with zipfile.ZipFile(stream) as archive:
        names = archive.namelist()
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise CheckpointError(f"{path} is a zip archive but not one of torch's; unpack it")
        root = roots[0]
        if any(name.startswith(f"{root}code/") for name in names):
            raise CheckpointError(
                f"{path} is a TorchScript program, not a file of weights; get the state dict"
            )
        order = archive.read(f"{root}byteorder") if f"{root}byteorder" in names else b"little"
        if order != b"little":
            raise CheckpointError(f"{path} was written on a big-endian machine; save it on another")
        with archive.open(f"{root}data.pkl") as pickled:
            content = inert_pickle.load(pickled, storages)
        members = {
            info.filename.removeprefix(f"{root}data/"): info
            for info in archive.infolist()
            if info.filename.startswith(f"{root}data/")
        }
        if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
            raise CheckpointError(f"{path} was compressed; save it again with torch.save")
        starts = {key: _data_of(stream, info) for key, info in members.items()}
        sizes = {key: info.file_size for key, info in members.items()}
    _check(storages, sizes)
    return TorchFile(path, content, starts)


def _data_of(stream: IO[bytes], info: zipfile.ZipInfo) -> int:
    stream.seek(info.header_offset)
    name, extra = struct.unpack("<26xHH", stream.read(_LOCAL_HEADER))
    return info.header_offset + _LOCAL_HEADER + int(name) + int(extra)


def _of_chain(path: Path, stream: IO[bytes]) -> TorchFile:
    if inert_pickle.load(stream) != _MAGIC:
        raise pickle.UnpicklingError("it does not begin as torch's files do")
    inert_pickle.load(stream)  # of the protocol
    inert_pickle.load(stream)  # of the machine
    storages = dict[str, Storage]()
    content = inert_pickle.load(stream, storages)
    keys = inert_pickle.load(stream)
    starts, sizes = dict[str, int](), dict[str, int]()
    end = path.stat().st_size
    for key in map(str, keys):
        (count,) = struct.unpack("<q", stream.read(8))
        starts[key] = stream.tell()
        sizes[key] = count * ITEM_BYTES[storages[key].dtype or "uint8"]
        if starts[key] + sizes[key] > end:
            raise pickle.UnpicklingError("its data end too early")
        stream.seek(sizes[key], 1)
    _check(storages, sizes)
    return TorchFile(path, content, starts)


def _check(storages: dict[str, Storage], sizes: dict[str, int]) -> None:
    """Each storage must be there, as long as the pickle says."""
    for key, storage in storages.items():
        if sizes.get(key, -1) < storage.count * ITEM_BYTES[storage.dtype or "uint8"]:
            raise pickle.UnpicklingError(f"the storage {key} is not whole")
