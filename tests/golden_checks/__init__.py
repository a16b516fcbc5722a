"""What each model's golden data are compared with.

`tests/golden_checks/MODEL.py` has one function, `check(checkpoint, case)`, which runs our code on a
golden checkpoint (a folder) and one case (the arrays of an .npz file) and compares stage by stage.
It takes all sizes from the files, so that goldens of the same form and other sizes run as well.

Every array of a case must be read by the check, or stand in its module's `LEFT_ASIDE` with the
reason, so that no number of the original code is passed over unseen.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # finding the checks needs no torch
    from torch import Tensor

Array: TypeAlias = "Tensor | npt.NDArray[np.generic]"


class Case(Mapping[str, npt.NDArray[np.generic]]):
    """The arrays of one golden case, and which of them a check has asked for."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        self._arrays = dict(arrays)
        self.unread = set(arrays)

    def __getitem__(self, name: str) -> npt.NDArray[np.generic]:
        self.unread.discard(name)
        return self._arrays[name]

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def assert_read(self, left_aside: Mapping[str, str]) -> None:
        """Every array was asked for or is left aside, and none is both."""
        unread = sorted(self.unread - left_aside.keys())
        assert not unread, f"no check reads {', '.join(unread)}"
        read = sorted((left_aside.keys() & self.keys()) - self.unread)
        assert not read, f"the check reads {', '.join(read)}, which it says it leaves aside"


@dataclass(frozen=True)
class Compared:
    """One comparison: the error relative to the largest golden value, and what is allowed."""

    stage: str
    error: float
    tolerance: float


COMPARED: list[Compared] = []
"""What was compared since the list was last cleared."""


def assert_close(stage: str, ours: Array, golden: Array, tolerance: float) -> None:
    """The largest difference is at most `tolerance` times the largest golden value."""
    a, b = np.asarray(ours, np.float64), np.asarray(golden, np.float64)
    assert a.shape == b.shape, f"{stage}: shape {a.shape} instead of {b.shape}"
    error = np.abs(a - b).max() / np.abs(b).max()
    COMPARED.append(Compared(stage, float(error), tolerance))
    assert error <= tolerance, f"{stage}: relative error {error:.1e}, more than {tolerance:.0e}"


def assert_mostly_close(
    stage: str, ours: Array, golden: Array, tolerance: float, worst: float
) -> None:
    """The same for 99 in 100 values, and for all of them with the tolerance `worst`."""
    assert_close(stage, ours, golden, worst)
    a, b = np.asarray(ours, np.float64), np.asarray(golden, np.float64)
    error = np.quantile(np.abs(a - b), 0.99) / np.abs(b).max()
    assert error <= tolerance, f"{stage}: relative error {error:.1e}, more than {tolerance:.0e}"


def greedy(
    llm: object,
    prompt: "Tensor",
    new_tokens: int,
    eos_id: int,
    num_beams: int = 1,
    **others: Any,
) -> list[int]:
    """The ids that our engine decodes from prompt embeddings without drawing, up to the end token.

    Greedily, or by a search over `num_beams`; `others` are further fields of GenerationSettings.
    """
    from ovmer.baselines.decoding.continuous import transformers_engine
    from ovmer.baselines.decoding.settings import GenerationSettings

    settings = GenerationSettings(max_new_tokens=new_tokens, num_beams=num_beams, **others)
    engine = transformers_engine(llm, _Ids(eos_id), settings)  # type: ignore[arg-type]
    return list(engine.generate([prompt], [0])[0].ids)


def heads(width: int, output: Callable[[int], Array], golden: Array, tolerance: float) -> int:
    """The number of heads with which attention of a `width` gives the golden output.

    It leaves no trace in the shapes of weights, and not every model's files tell it.
    """
    expected = np.asarray(golden, np.float64)
    for count in (n for n in range(1, width + 1) if width % n == 0):
        found = np.asarray(output(count), np.float64)
        if np.abs(found - expected).max() <= tolerance * np.abs(expected).max():
            return count
    raise AssertionError("with no number of heads does attention give the golden output")


def eva_heads(file: Path, pixels: Array, golden: Array, tolerance: float) -> int:
    """The number of heads of the EVA-ViT in `file`, which gives the golden output for `pixels`."""
    import torch

    from ovmer.baselines.device import Placement
    from ovmer.baselines.layers.eva_vit import EvaVit, read_eva
    from ovmer.baselines.weights import load_strict, weightless

    @torch.inference_mode()
    def output(count: int) -> Array:
        config, tensors = read_eva(file, "", count)
        with weightless():
            tower = EvaVit(config)
        load_strict(tower, tensors, Placement(torch.device("cpu"), torch.float32))
        return tower(pixels)

    return heads(golden.shape[-1], output, golden, tolerance)


def until(ids: Sequence[int], end: int) -> list[int]:
    """The ids before the first `end`, or all of them."""
    return list(takewhile(lambda token: token != end, ids))


class _Ids:
    """A tokenizer for data that come as ids: goldens were made with stand-ins for tokenizers."""

    def __init__(self, eos_id: int) -> None:
        self.bos_id = self.eos_id = eos_id
        self.stop_ids = (eos_id,)

    def encode(self, text: str) -> list[int]:
        raise AssertionError("goldens hold ids, no text")

    def decode(self, ids: Sequence[int]) -> str:
        return ""
