"""The command line of the commands that are not Hydra applications: paths and key=value."""

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ovmer.baselines.errors import PrerequisiteError, near, one_of


@dataclass
class Arguments:
    """A parsed command line."""

    paths: list[str] = field(default_factory=list)
    """Arguments that are no key=value, or that name a file or folder that exists."""
    settings: dict[str, str] = field(default_factory=dict)
    """The command's own settings, as typed."""
    overrides: list[str] = field(default_factory=list)
    """Settings of conf/config.yaml, in Hydra's syntax."""
    flags: set[str] = field(default_factory=set)
    """Names of those that are on."""
    config_dir: Path | None = None
    """The folder with yaml files of the user's own."""

    def one_of(self, key: str, choices: Sequence[str]) -> str:
        """The value of a setting, `choices[0]` by default; PrerequisiteError for another value."""
        value = self.settings.get(key, choices[0])
        one_of(key, value, choices)
        return value

    def is_true(self, key: str) -> bool:
        """The value of a setting that is true or false, by default false."""
        return self.one_of(key, ("false", "true")) == "true"

    def number(self, key: str) -> float | None:
        """The value of a setting that is a number above 0; None where it is not given.

        Raises PrerequisiteError for another value.
        """
        if key not in self.settings:
            return None
        try:
            value = float(self.settings[key])
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise PrerequisiteError(f"{key} is {self.settings[key]!r}; it is a number above 0")
        return value


def parse(
    about: str | None,
    settings: Sequence[str] = (),
    overrides: Sequence[str] | None = (),
    paths: str = "",
    epilog: str = "",
    flags: Mapping[str, str] | None = None,
    config_dir: bool = False,
) -> Arguments:
    """Parse `sys.argv`; `--help` prints `about` and `epilog`.

    `settings` are the command's own keys and `overrides` the top-level keys of conf/config.yaml
    that it takes (None: all). `paths` names the arguments that are no key=value; empty where there
    are none; `flags` are those `--NAME` that are on or off, and what they do. `--config-dir` is
    taken where there are overrides, or with `config_dir`. Raises PrerequisiteError for an argument
    that is none of these.
    """
    parser = argparse.ArgumentParser(
        description=about, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    composes = overrides is None or bool(overrides)
    has_keys = bool(settings) or composes
    if kinds := " or ".join([*([paths] if paths else []), *(["key=value"] if has_keys else [])]):
        parser.add_argument("argument", nargs="*", metavar=kinds)
    if composes or config_dir:
        parser.add_argument("--config-dir", type=Path, help="a folder with yaml files of your own")
    for flag, effect in (flags or {}).items():
        parser.add_argument(f"--{flag}", action="store_true", help=effect)
    parsed = parser.parse_intermixed_args()  # an option may come among the settings
    found = Arguments(flags={flag for flag in flags or () if getattr(parsed, flag)})
    if getattr(parsed, "config_dir", None):
        from ovmer.runners.config import search_path

        found.config_dir = parsed.config_dir
        found.overrides.append(search_path(parsed.config_dir))
    for argument in getattr(parsed, "argument", []):
        key, equals, value = argument.partition("=")
        group = key.lstrip("+~").rpartition("@")[2].partition(".")[0]
        if paths and (not equals or (key not in settings and os.path.exists(argument))):
            found.paths.append(argument)
        elif equals and key in settings:
            found.settings[key] = value
        elif overrides is None or group in overrides:
            found.overrides.append(argument)
        else:
            known = [*settings, *(overrides or ())]
            if overrides:  # a key of conf/config.yaml may exist without this command taking it
                raise PrerequisiteError(f"{argument}: {parser.prog} takes {', '.join(known)}")
            raise PrerequisiteError(f"there is no key {key}; {near(key, known)}")
    return found
