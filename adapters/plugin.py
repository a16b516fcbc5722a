"""Checks of an adapter class from another package, made before anything runs.

Python would meet these mistakes only when the method is called, in the middle of a run.
"""

import difflib
import inspect
from collections.abc import Iterable, Sequence, Set

from ovmer.adapters.base import AUDIO, SUBTITLE, VIDEO, Adapter
from ovmer.baselines.errors import PrerequisiteError, near

_CALLS = {
    "describe": ("video", "audio", "subtitle"),
    "prepare": ("video", "audio", "subtitle"),
    "encode": ("batch",),
    "generate": ("batch",),
    "load": ("machine",),
}
"""How the runner calls the methods of the contract."""


def check(name: str, cls: type[Adapter]) -> None:
    """Raise PrerequisiteError for the first mistake in a class: one sentence that names it."""
    check_modalities(name, cls.modalities)
    for method in _methods(cls):
        close = difflib.get_close_matches(method, _CALLS, n=1, cutoff=0.75)
        if close and method not in _CALLS and close[0] not in cls.defines:
            raise PrerequisiteError(
                f"the adapter {name!r} has a method {method}, which nothing calls; "
                f"did you mean {close[0]}?"
            )
    if not cls.defines & {"describe", "generate"}:
        raise PrerequisiteError(
            f"the adapter {name!r} defines neither describe() nor prepare() and generate()"
        )
    for method in sorted(cls.defines & _CALLS.keys()):
        _check_signature(name, cls, method, _CALLS[method])


def check_modalities(name: str, modalities: object) -> None:
    """Raise PrerequisiteError unless `modalities` is a set of the three known kinds."""
    known = (VIDEO, AUDIO, SUBTITLE)
    if not isinstance(modalities, Set):
        raise PrerequisiteError(
            f"the adapter {name!r} has modalities={modalities!r}; make it a frozenset of "
            f"{', '.join(known)}"
        )
    for each in sorted(map(str, modalities - set(known))):
        raise PrerequisiteError(f"the adapter {name!r} uses {each!r}; {near(each, known)}")


def _methods(cls: type[Adapter]) -> Iterable[str]:
    """Public methods of the class and its bases that are not part of the contract."""
    ours = set(dir(Adapter))
    return [n for n, _ in inspect.getmembers(cls, inspect.isfunction) if n not in ours]


def _check_signature(name: str, cls: type[Adapter], method: str, given: Sequence[str]) -> None:
    function = inspect.getattr_static(cls, method)
    first = () if isinstance(function, staticmethod) else (None,)
    try:
        inspect.signature(getattr(cls, method)).bind(*first, *given)
    except TypeError as error:
        raise PrerequisiteError(
            f"{cls.__name__}.{method} of the adapter {name!r} must take "
            f"({', '.join(given)}): {error}"
        ) from error
