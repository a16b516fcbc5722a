"""JSON values -> dataclasses, with every type checked: a file may come from anywhere."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache, partial
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")
Converter = Callable[[Any], Any]


def from_json(kind: type[T], values: Any) -> T:
    """Build a dataclass from a JSON object.

    Raises ValueError that names the key which is unknown, missing or of another type.
    """
    converters, required = _plan(kind)  # type: ignore[arg-type]  # a class is hashable
    if type(values) is not dict:
        raise ValueError(f"{_short(values)} stands where an object is expected")
    try:
        found = {key: converters[key](value) for key, value in values.items()}
    except (KeyError, ValueError):  # which key it was is asked only now: records are many
        for key, value in values.items():
            _converted(converters, key, value)
        raise
    if not required <= found.keys():
        raise ValueError(f"no {min(required - found.keys())}")
    return kind(**found)


def _converted(converters: Mapping[str, Converter], key: str, value: Any) -> None:
    if key not in converters:
        raise ValueError(f"unknown key {key!r}")
    try:
        converters[key](value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


@cache
def _plan(kind: Any) -> tuple[dict[str, Converter], set[str]]:
    """The converter of each field, and the fields without a default."""
    hints = get_type_hints(kind)
    needed = {
        each.name
        for each in fields(kind)
        if each.default is MISSING and each.default_factory is MISSING
    }
    return {each.name: _converter(hints[each.name]) for each in fields(kind)}, needed


def _converter(hint: Any) -> Converter:
    """Converter for Any, plain types, enums, dataclasses, and for `|`, tuples, lists, dicts."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value: value
    if origin is UnionType:
        one, none = inner
        assert none is NoneType
        convert = _converter(one)
        return lambda value: None if value is None else convert(value)
    if origin in (tuple, list):
        return partial(_array, origin, _converter(inner[0]))
    if origin in (dict, Mapping):
        return partial(_object, _converter(inner[1]))
    if isinstance(hint, type) and is_dataclass(hint):
        return partial(from_json, hint)
    if issubclass(hint, Enum):
        return hint
    return partial(_plain, (int, float) if hint is float else (hint,), hint.__name__)


def _plain(kinds: tuple[type, ...], name: str, value: Any) -> Any:
    if type(value) not in kinds:  # not isinstance: True is no number
        raise ValueError(f"{_short(value)} is no {name}")
    return value


def _array(kind: type, convert: Converter, value: Any) -> Any:
    if type(value) is not list:
        raise ValueError(f"{_short(value)} is no list")
    return kind(map(convert, value))


def _object(convert: Converter, value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise ValueError(f"{_short(value)} is no object")
    return {key: convert(each) for key, each in value.items()}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
