"""One sentence for each mistake in a configuration."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)
from yaml import YAMLError

from ovmer.baselines.errors import PrerequisiteError, first_line, near

S = TypeVar("S")
_OF_GROUP = re.compile(r"is not a subclass of \w+\. value: (.+)|Cannot assign \w+ to Dict")
"""OmegaConf's words where a single value is given to a group of settings."""


def explain(error: Exception, group: str = "") -> str:
    """One sentence for an error of Hydra, OmegaConf or the yaml reader.

    `group` is that of the keys where OmegaConf was given only a part of the configuration.
    """
    from hydra.errors import MissingConfigException, OverrideParseException  # 0.2 s, seldom needed

    if isinstance(error, MissingConfigException) and error.options is not None:
        where, _, choice = str(error.missing_cfg_file).rpartition("/")
        return f"there is no {where}={choice}; {near(choice, error.options)}"
    if isinstance(error, OverrideParseException):
        if Path(error.override).expanduser().exists():
            return (
                f"{error.override} is a path without its setting; write clips={error.override} "
                f"for clips to describe, predictions={error.override} for answers to score"
            )
        return (
            f"{error.override!r} cannot be read as key=value ({first_line(error)}); "
            "put quotes within quotes around a value with special characters: 'key=\"value\"'"
        )
    inner = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(inner, OmegaConfBaseException):
        key = ".".join(part for part in (group, inner.full_key) if part)
        if isinstance(inner, ConfigKeyError | ConfigAttributeError):
            return f"there is no key {key}; {_hint(inner)}"
        if isinstance(inner, MissingMandatoryValue):
            return f"{key} has no value; give {key}=..."
        return f"{key}: {_of_value(inner, key)}"
    if str(error).startswith("Ambiguous value"):
        override = str(error).split("'")[1]
        key, _, values = override.partition("=")
        if Path(values).expanduser().exists():
            return (
                f"the path {values} holds a comma; put quotes within quotes: \"{key}='{values}'\""
            )
        return f"{override} is no single value; add -m to sweep, or give a list as {key}=[{values}]"
    if isinstance(error, YAMLError):  # its further lines name the file, line and column
        said = " ".join(str(error).split())
        if said.startswith("mapping values are not allowed"):
            return f"{said}; a value that holds a colon needs quotes"
        return said
    return first_line(error)


def _of_value(error: OmegaConfBaseException, key: str) -> str:
    """What is wrong with the value of `key`: as a rule OmegaConf's own words."""
    said = first_line(error)
    if error.value == {}:  # OmegaConf makes room for a key below this one
        preset = "; a preset's are baseline.generation.PRESET.KEY" * (key == "generation")
        return f"this is one value, no group of settings; say {key}=VALUE{preset}"
    if match := _OF_GROUP.search(said):
        below = "KEY" if error.key else "GROUP.KEY"  # of a merge the key is not known
        if key.startswith("baseline.checkpoint"):
            below = "path" if key.count(".") > 1 else "PART.path"
        given = match[1] or error.value
        return f"{given} is one value for a group of settings; say {key}.{below}={given}"
    return said


def _hint(error: OmegaConfBaseException) -> str:
    """The hint after an unknown key."""
    parent = error.parent_node
    known = [str(key) for key in parent] if isinstance(parent, DictConfig) else []
    return near(str(error.key), known) if known else "put + before it to add it"


def to_dataclass(schema: type[S], settings: Mapping[str, Any], group: str) -> S:
    """The settings of a group as the dataclass of its keys.

    Raises PrerequisiteError for a wrong key or value.
    """
    try:
        found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), dict(settings)))
    except OmegaConfBaseException as error:
        raise PrerequisiteError(explain(error, group)) from error
    assert isinstance(found, schema)
    return found
