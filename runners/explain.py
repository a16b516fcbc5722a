"""One sentence for each mistake in a configuration."""

import re
from pathlib import Path

from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)
from yaml import YAMLError

from ovmer.adapters.registry import near

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
        return (
            f"{error.override!r} cannot be read as key=value ({_first_line(error)}); "
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
        return " ".join(str(error).split())
    return _first_line(error)


def _of_value(error: OmegaConfBaseException, key: str) -> str:
    """What is wrong with the value of `key`: as a rule OmegaConf's own words."""
    said = _first_line(error)
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


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
