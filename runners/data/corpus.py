"""The label files of MERBench and MER-UniBench: an .npz with one pickled dict a split.

corpus[name] = {"emo": ..., "val": ...}
"""

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.object_arrays import read_member


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
        yield str(name), value


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
            found = read_member(archive.read(f"{split}.npy"))
    except zipfile.BadZipFile as error:
        raise PrerequisiteError(f"{path} is no npz file ({error}); was it cut?") from error
    except OSError as error:
        raise PrerequisiteError(f"{path} cannot be read: {error.strerror or error}") from error
    except (pickle.UnpicklingError, ValueError) as error:
        raise PrerequisiteError(f"{path} is no file of labels ({error})") from error
    if not isinstance(found, Mapping):
        raise PrerequisiteError(f"{path}: {split} holds no dict of clips")
    return found
