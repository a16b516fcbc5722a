"""Settings of one model among several: `video_llava.frames=4` is `baseline.frames=4` in its jobs.

ovmer sweep -m baseline=lexicon,video_llava,emotion_llama emotion_llama.asks_for=emotion
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ovmer.adapters import registry
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.config import CONF

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


def apply(config: "DictConfig", overrides: Sequence[str]) -> None:
    """Set values of a composed configuration.

    Raises PrerequisiteError for a sweep over values; errors of Hydra and OmegaConf pass.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    for each in OverridesParser.create().parse_overrides(list(overrides)):
        if each.is_sweep_override():
            raise PrerequisiteError(
                f"{each.input_line}: a setting of one model has one value; put quotes around a "
                "comma in a text"
            )
        is_new = each.is_add() or each.is_force_add()
        OmegaConf.update(config, each.key_or_group, each.value(), merge=True, force_add=is_new)
