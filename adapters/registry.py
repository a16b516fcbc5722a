"""Names -> adapter classes, imported only when asked for.

Adapters of this tree are listed in `BUILT_IN` as "module:Class", so that listing names imports
nothing; `@register` in the module checks that the two agree. Code outside the tree announces
itself in the entry-point group `ovmer.adapters` and cannot take a built-in name.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from ovmer.adapters.base import Adapter
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.errors import near as near

GROUP = "ovmer.adapters"

BUILT_IN: Mapping[str, str] = {
    "combined": "ovmer.adapters.combined",
    "external": "ovmer.adapters.external",
    "empty": "ovmer.adapters.heuristic",
    "random": "ovmer.adapters.heuristic",
    "ground_truth": "ovmer.adapters.heuristic",
    "lexicon": "ovmer.adapters.heuristic",
    "scripted": "ovmer.adapters.scripted",
    "served": "ovmer.adapters.served",
    "affectgpt": "ovmer.adapters.models.affectgpt",
    "chat_univi": "ovmer.adapters.models.chat_univi",
    "video_chatgpt": "ovmer.adapters.models.video_chatgpt",
    "videochat": "ovmer.adapters.models.videochat",
    "llama_vid": "ovmer.adapters.models.llama_vid",
    "native": "ovmer.adapters.native",
    "mplug_owl": "ovmer.adapters.models.mplug_owl",
    "onellm": "ovmer.adapters.models.onellm",
    "otter": "ovmer.adapters.models.otter",
    "pandagpt": "ovmer.adapters.models.pandagpt",
    "qwen_audio": "ovmer.adapters.models.qwen_audio",
    "salmonn": "ovmer.adapters.models.salmonn",
    "video_llama": "ovmer.adapters.models.video_llama",
    "video_llava": "ovmer.adapters.models.video_llava",
    "video_llava_hf": "ovmer.adapters.models.video_llava",
    "videochat2": "ovmer.adapters.models.videochat2",
    "secap": "ovmer.adapters.models.secap",
}

_registered: dict[str, type[Adapter]] = {}
A = TypeVar("A", bound=type[Adapter])


@dataclass(frozen=True)
class Listing:
    """One name of the registry and where it comes from."""

    name: str
    source: str


def register(name: str) -> Callable[[A], A]:
    """Class decorator: make an adapter of this tree known as `name`."""

    def enter(cls: A) -> A:
        if name not in BUILT_IN:
            raise ValueError(f"{name!r} is missing from BUILT_IN in {__name__}")
        other = _registered.get(name)
        if other is not None and other.__qualname__ != cls.__qualname__:
            raise ValueError(f"{name!r} is registered twice: {other!r} and {cls!r}")
        _registered[name] = cls
        return cls

    return enter


@cache
def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in BUILT_IN}


def names() -> list[Listing]:
    """Every adapter that can be asked for; imports none of them."""
    found = [Listing(name, module) for name, module in BUILT_IN.items()]
    found += [Listing(name, point.value) for name, point in _plugins().items()]
    return sorted(found, key=lambda listing: listing.name)


def get(name: str) -> type[Adapter]:
    """The adapter class called `name`, or the one at the dotted path `package.module:Class`.

    Raises PrerequisiteError for an unknown name or a plug-in that cannot be imported.
    """
    if name in BUILT_IN:
        importlib.import_module(BUILT_IN[name])
        return _registered[name]
    if ":" in name:
        point = EntryPoint(name, name, GROUP)
    elif name in _plugins():
        point = _plugins()[name]
    else:
        known = [listing.name for listing in names()]
        raise PrerequisiteError(f"no adapter is called {name!r}; {near(name, known)}")
    return _load(point)


def _load(point: EntryPoint) -> type[Adapter]:
    try:
        found = point.load()
    # Code of others fails in any way it likes; whatever it raised is named in one sentence.
    except Exception as error:
        raise PrerequisiteError(
            f"the adapter {point.name!r} ({point.value}) cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Adapter)):
        raise PrerequisiteError(
            f"the adapter {point.name!r} ({point.value}) is no subclass of ovmer.adapters.Adapter"
        )
    return found
