"""The label files of MERBench and MER-UniBench: an .npz with one pickled dict a split.

    corpus[name] = {"emo": ..., "val": ...}

A pickle can run code when it is opened. These hold dicts, texts, numbers and numpy scalars, so only
what rebuilds those is let through; a file that asks for anything else is refused by name.
"""

import io
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ovmer.baselines.errors import PrerequisiteError

_HARMLESS = frozenset(
    {
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),  # the bytes of a scalar, as Python 2's protocol writes them
    }
)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")  # where it stood before numpy 2
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def read_corpus(path: Path, split: str | None, column: str | None) -> Iterator[tuple[str, Any]]:
    """Yield (name, value of `column`) for each clip of a split; None where there is no column.

    Raises PrerequisiteError where the file, the split or the column is not as it should be.
    """
    found = _split(path, split)
    for name, entry in found.items():
        if not isinstance(entry, Mapping):
            raise PrerequisiteError(f"{path}: clip {name!r} of {split} holds no emo and val")
        if column is not None and column not in entry:
            have = ", ".join(map(str, entry)) or "nothing"
            raise PrerequisiteError(f"{path}: clip {name!r} has no {column!r}; it holds {have}")
        value: Any = None if column is None else entry[column]
        yield str(name), value.item() if hasattr(value, "item") else value


def _split(path: Path, split: str | None) -> Mapping[Any, Any]:
    if not path.is_file():
        raise PrerequisiteError(f"there is no file {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            splits = [name.removesuffix(".npy") for name in archive.namelist()]
            if split not in splits:
                raise PrerequisiteError(
                    f"{path} has no split {split!r}; it holds {', '.join(splits) or 'nothing'}"
                )
            found = _unpickled(archive.read(f"{split}.npy"))
    except zipfile.BadZipFile as error:
        raise PrerequisiteError(f"{path} is no npz file ({error}); was it cut?") from error
    except OSError as error:
        raise PrerequisiteError(f"{path} cannot be read: {error.strerror or error}") from error
    except (pickle.UnpicklingError, ValueError, EOFError, AttributeError, TypeError) as error:
        raise PrerequisiteError(f"{path} is no file of labels ({error})") from error
    if not isinstance(found, Mapping):
        raise PrerequisiteError(f"{path}: {split} holds no dict of clips")
    return found


def _unpickled(content: bytes) -> Any:
    """The one object of a .npy file; numpy would only unpickle it without restriction."""
    from numpy.lib import format as npy

    file = io.BytesIO(content)
    read = (
        npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
    )
    read(file)
    array = _Unpickler(file).load()
    return array.item() if hasattr(array, "item") else array
