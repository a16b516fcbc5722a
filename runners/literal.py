"""Keeps text on the command line as it is typed: Hydra takes a clip called 1e5 for 100000.0."""

import re
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from typing import get_type_hints

_NUMBER = r"[+-]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:e[+-]?\d+)?|[+-]?inf|nan"
_ITEM = re.compile(rf"(?<=[=\[,])(\s*)({_NUMBER})(\s*)(?=[,\]]|$)", re.IGNORECASE)
"""A number that is the whole of a value, or of an item of a list."""


def as_typed(overrides: Sequence[str]) -> list[str]:
    """The overrides in Hydra's syntax, with quotes around numbers where the setting is text."""
    return [_quoted(each) for each in overrides]


def _quoted(override: str) -> str:
    key = override.partition("=")[0].lstrip("+")
    if key not in _text_keys() or "'" in override or '"' in override:
        return override
    return _ITEM.sub(r"\1'\2'\3", override)


@cache
def _text_keys() -> frozenset[str]:
    """The settings that are text or lists of text, and those that name clips."""
    from ovmer.runners.config import ColumnSettings, Settings

    found = {"dataset.clips", "redo"}
    for schema, above in ((Settings, ""), (ColumnSettings, "columns.")):
        hints = get_type_hints(schema)
        found |= {
            above + each.name
            for each in fields(schema)
            if hints[each.name] in (str, str | None, list[str])
        }
    return frozenset(found)
