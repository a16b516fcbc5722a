"""Names -> adapter classes, imported only when asked for.

A port is called like its file in `models/`; the other adapters of this tree are listed in
`BUILT_IN` by their module, so that listing names imports nothing. `@register` in the module checks
that the two agree. Other packages announce theirs in the entry-point group `ovmer.adapters`, with a
file `conf/baseline/NAME.yaml` in the package where they have settings; a module that a program
imports itself may use `@register`. A name belongs to one: whoever asks for a name that two give is
given an error that names both.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from ovmer.adapters import plugin
from ovmer.adapters.base import Adapter
from ovmer.baselines.errors import PrerequisiteError, near

GROUP = "ovmer.adapters"

BUILT_IN: Mapping[str, str] = {
    "combined": "ovmer.adapters.combined",
    "external": "ovmer.adapters.external",
    "empty": "ovmer.adapters.heuristic",
    "random": "ovmer.adapters.heuristic",
    "ground_truth": "ovmer.adapters.heuristic",
    "lexicon": "ovmer.adapters.heuristic",
    "native": "ovmer.adapters.native",
    "scripted": "ovmer.adapters.scripted",
    "chat_llm": "ovmer.adapters.chat_llm",
    "packaged_llm": "ovmer.adapters.chat_llm",
    "served": "ovmer.adapters.served",
    "video_llava_hf": "ovmer.adapters.models.video_llava",
    **{
        file.stem: f"ovmer.adapters.models.{file.stem}"
        for file in sorted(Path(__file__).parent.glob("models/[!_]*.py"))
    },
}

_registered: dict[str, type[Adapter]] = {}
A = TypeVar("A", bound=type[Adapter])


@dataclass(frozen=True)
class RegistryEntry:
    """One name of the registry and where it comes from."""

    name: str
    source: str


def register(name: str) -> Callable[[A], A]:
    """Class decorator: make an adapter known as `name`.

    Outside this tree it serves a program that imports the module itself; the command line finds a
    package's adapters by their entry points. Raises ValueError for a name that is taken.
    """

    def enter(cls: A) -> A:
        ours = cls.__module__.startswith("ovmer.")
        if ours and name not in BUILT_IN:
            raise ValueError(f"{name!r} is missing from BUILT_IN in {__name__}")
        if not ours and name in BUILT_IN:
            raise ValueError(
                f"{cls!r} cannot be called {name!r}, a baseline of ovmer ({BUILT_IN[name]}); "
                "choose another name"
            )
        other = _registered.get(name)
        if other is not None and other.__qualname__ != cls.__qualname__:
            raise ValueError(f"{name!r} is registered twice: {other!r} and {cls!r}")
        _registered[name] = cls
        return cls

    return enter


@cache
def _plugins() -> Sequence[EntryPoint]:
    return tuple(entry_points(group=GROUP))


def _plugin(name: str) -> EntryPoint | None:
    """The plug-in of that name; PrerequisiteError where the name is another's as well."""
    points = {point.value: point for point in _plugins() if point.name == name}
    sides = [_side(point) for point in points.values()]
    if name in BUILT_IN:
        sides.insert(0, f"ovmer itself ({BUILT_IN[name]})")
    elif points and name in _registered:
        sides.append(f"@register ({_registered[name]!r})")
    if points and len(sides) > 1:
        raise PrerequisiteError(
            f"the name {name!r} is given by {' and by '.join(sides)}; uninstall all but one, or "
            "give the plug-in's entry point another name"
        )
    return next(iter(points.values()), None)


def _side(point: EntryPoint) -> str:
    return f"{point.dist.name} ({point.value})" if point.dist else point.value


def settings_file(name: str) -> Path | None:
    """`conf/baseline/NAME.yaml` of the package that a plug-in comes from; imports nothing."""
    for point in _plugins():
        if point.name == name and (spec := find_spec(point.module.partition(".")[0])):
            for folder in spec.submodule_search_locations or ():
                if (file := Path(folder) / "conf" / "baseline" / f"{name}.yaml").is_file():
                    return file
    return None


def names() -> list[RegistryEntry]:
    """Every adapter that can be asked for; imports none of them."""
    found = [RegistryEntry(name, module) for name, module in BUILT_IN.items()]
    found += [RegistryEntry(point.name, point.value) for point in _plugins()]
    found += [
        RegistryEntry(name, f"{cls.__module__}:{cls.__qualname__}")
        for name, cls in _registered.items()
        if name not in BUILT_IN
    ]
    return sorted(found, key=lambda listing: listing.name)


def get(name: str) -> type[Adapter]:
    """The adapter class called `name`, or the one at the dotted path `package.module:Class`.

    Raises PrerequisiteError for an unknown name or a plug-in that cannot be imported.
    """
    point = EntryPoint(name, name, GROUP) if ":" in name else _plugin(name)
    if name in BUILT_IN:
        importlib.import_module(BUILT_IN[name])
    if name in _registered:
        found = _registered[name]
    elif point is not None:
        found = _load(point)
    else:
        known = [listing.name for listing in names()]
        raise PrerequisiteError(f"no adapter is called {name!r}; {near(name, known)}")
    if name not in BUILT_IN:
        plugin.check(name, found)
    return found


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
