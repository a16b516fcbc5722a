"""Keys and passwords in settings: refused before any setting is stored or printed.

Settings appear in run.json, in the names of run folders, in logs and in job scripts of a cluster.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ovmer.baselines.errors import PrerequisiteError

_NAMES = re.compile(r"(.*_)?(api_?key|secret|password|passwd|authorization|bearer|auth_token)")
_VALUES = re.compile(r"\b(?:sk|hf|ghp|xox[bp])[-_][A-Za-z0-9_-]{16,}|\bBearer\s+\S{8,}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def refuse_secrets(settings: Mapping[str, Any]) -> None:
    """Raise PrerequisiteError where a setting holds a key or password, by its name."""
    for key, value in _leaves(settings, ""):
        name = key.rpartition(".")[2].lower().replace("-", "_")
        if name == "key_variable":
            if not _VARIABLE.fullmatch(value):
                raise PrerequisiteError(
                    f"{key} is no name of an environment variable; give the name of the one that "
                    "holds the key, e.g. OPENAI_API_KEY, not the key"
                )
        elif value and (_NAMES.fullmatch(name) or _VALUES.search(value)):
            raise PrerequisiteError(
                f"{key} holds a secret, which would be written to run.json; put it into the "
                "environment variable that engine.key_variable names (OPENAI_API_KEY)"
            )
        elif _has_password(value):
            raise PrerequisiteError(
                f"{key} holds a password, which would be written to run.json; put the url into the "
                "environment variable OPENAI_BASE_URL"
            )


def _leaves(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text in nested settings, with its dotted name."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _leaves(each, f"{key}.{name}" if key else str(name))
    elif isinstance(value, str):
        yield key, value
    elif isinstance(value, Sequence):
        for each in value:
            yield from _leaves(each, key)


def _has_password(value: str) -> bool:
    try:
        return "://" in value and bool(urlsplit(value).password)
    except ValueError:
        return False
