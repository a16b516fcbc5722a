"""`embeddings=true`: hidden states of each clip's prompt, beside the answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovmer.adapters.base import Adapter, Answer, Machine, Prepared
from ovmer.adapters.mllm import Mllm
from ovmer.baselines.errors import ClipError, PrerequisiteError

FILE = "embeddings.npz"
_PARTS = "embeddings"


class WithEmbeddings(Adapter):
    """A model that also keeps hidden states of every clip that it answers, as files in a folder.

    Each clip is encoded twice, and its prompt read twice.
    """

    def __init__(self, adapter: Adapter, run: Path) -> None:
        """`run` is the run's folder. Raises PrerequisiteError for what is no language model."""
        if not isinstance(adapter, Mllm):
            raise PrerequisiteError(
                f"embeddings=true needs a language model on this machine, which "
                f"{type(adapter).__name__} is not; leave it out"
            )
        self._adapter, self._folder = adapter, run / _PARTS
        self.modalities = adapter.modalities  # type: ignore[misc]

    def load(self, machine: Machine) -> None:
        self._folder.mkdir(exist_ok=True)
        self._adapter.load(machine)

    @property
    def load_notes(self) -> tuple[str, ...]:
        return self._adapter.load_notes

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        return self._adapter.prepare(video, audio, subtitle)

    def asking(self, question: str) -> Any:
        return self._adapter.asking(question)

    def generate(self, batch: list[Prepared]) -> Sequence[str | Answer | ClipError]:
        answers = self._adapter.generate(batch)
        for item, answer in zip(batch, answers, strict=True):
            if isinstance(answer, ClipError):
                continue
            states = self._adapter.prompt_states(item)
            if states is not None:
                found: dict[str, Any] = {"hidden": states.hidden, **states.connector}
                np.savez(self._folder / f"{item.seed}.npz", **found)
        return answers

    def close(self) -> None:
        self._adapter.close()


def collect(run: Path, seeds: Mapping[str, int]) -> int:
    """Put the clips' files into embeddings.npz, with what it held before; how many it holds.

    `seeds` are those of the clips, by name, in their order. The file has `names` (clips), `hidden`
    (clips x width), `connector` (clips x slots x width, NaN where a clip lacks a slot) and `slots`.
    """
    found = _read(run / FILE)
    for name, seed in seeds.items():
        if (part := run / _PARTS / f"{seed}.npz").is_file():
            with np.load(part, allow_pickle=False) as arrays:
                found[name] = dict(arrays)
    found = {name: found[name] for name in seeds if name in found}
    if found:
        _write(run / FILE, found)
    for part in (run / _PARTS).glob("*.npz"):
        part.unlink()
    if (run / _PARTS).is_dir():
        (run / _PARTS).rmdir()
    return len(found)


def _read(file: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """By clip: `hidden`, and the vector of each slot."""
    if not file.is_file():
        return {}
    with np.load(file, allow_pickle=False) as arrays:
        slots = [str(slot) for slot in arrays["slots"]]
        return {
            str(name): {"hidden": hidden}
            | {slot: row for slot, row in zip(slots, rows, strict=True) if not np.isnan(row).all()}
            for name, hidden, rows in zip(
                arrays["names"], arrays["hidden"], arrays["connector"], strict=True
            )
        }


def _write(file: Path, found: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
    slots = list(
        dict.fromkeys(slot for each in found.values() for slot in each if slot != "hidden")
    )
    width = max(
        (len(each[slot]) for each in found.values() for slot in each if slot != "hidden"), default=0
    )
    connector = np.full((len(found), len(slots), width), np.nan, np.float32)
    for row, each in zip(connector, found.values(), strict=True):
        for index, slot in enumerate(slots):
            if slot in each:
                row[index] = each[slot]
    beside = file.with_name(f".{file.name}")
    np.savez_compressed(
        beside,
        names=np.array(list(found)),
        hidden=np.stack([each["hidden"] for each in found.values()]),
        connector=connector,
        slots=np.array(slots, dtype=str),
    )
    beside.replace(file)
