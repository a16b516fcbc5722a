"""Settings that are applied to each job of a sweep after Hydra has composed it.

    ovmer sweep -m baseline=lexicon,video_llava,emotion_llama emotion_llama.asks_for=emotion

Settings of one model among several: `video_llava.frames=4` is `baseline.frames=4` in its jobs. And
settings of all, `baseline.frames=4`, which Hydra would first look for in the default baseline.
"""

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ovmer.adapters import registry
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.config import CONF, Settings

if TYPE_CHECKING:
    from omegaconf import DictConfig

_SETTING = re.compile(r"(\+{0,2})(\w+)\.([\w.]+=.*)", re.DOTALL)
_CHOICE = re.compile(r"baseline=(.*)", re.DOTALL)


def taken_out(arguments: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """(overrides of `baseline` by the name of the only model they are for, all other arguments)."""
    chosen = [match[1].split(",") for each in arguments if (match := _CHOICE.fullmatch(each))]
    names = {name.strip() for each in chosen for name in each}
    names |= {file.stem for file in (CONF / "baseline").glob("*.yaml")}
    names |= {each.name for each in registry.names()}
    own, rest = dict[str, list[str]](), list[str]()
    for argument in arguments:
        match = _SETTING.fullmatch(argument)
        if match and match[2] in names:
            own.setdefault(match[2], []).append(f"{match[1]}baseline.{match[3]}")
        else:
            rest.append(argument)
    return own, rest


def of_all(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """(overrides of keys below a group that have one value, all other arguments) of a sweep."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    groups = {each.name for each in fields(Settings) if each.type == dict[str, Any]}
    found = [
        each
        for each in arguments
        if (match := _SETTING.fullmatch(each)) and match[2] in groups and not match[1]
        if not parser.parse_override(each).is_sweep_override()
    ]
    return found, [each for each in arguments if each not in found]


def apply(config: "DictConfig", overrides: Sequence[str]) -> None:
    """Set values of a composed configuration.

    Raises PrerequisiteError for a sweep over values and for a key that the job's choice lacks;
    other errors of Hydra and OmegaConf pass.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf
    from omegaconf.errors import ConfigAttributeError, ConfigKeyError

    from ovmer.runners.explain import explain

    for each in OverridesParser.create().parse_overrides(list(overrides)):
        if each.is_sweep_override():
            raise PrerequisiteError(
                f"{each.input_line}: a setting of one model has one value; put quotes around a "
                "comma in a text"
            )
        is_new = each.is_add() or each.is_force_add()
        try:
            OmegaConf.update(config, each.key_or_group, each.value(), merge=True, force_add=is_new)
        except (ConfigKeyError, ConfigAttributeError) as error:
            group = each.key_or_group.partition(".")[0]
            raise PrerequisiteError(
                f"{group}={config[group].name}: {explain(error)}; NAME.KEY=VALUE sets a key of the "
                "baseline NAME alone"
            ) from error
