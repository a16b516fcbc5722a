"""Checks of a chat MLLM before its first clip: packages and kinds of input."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ovmer.adapters.base import AUDIO, VIDEO
from ovmer.baselines.errors import PrerequisiteError

if TYPE_CHECKING:
    from ovmer.baselines.native.processor import ChatProcessor


def check_packages(architecture: str, packages: Mapping[str, str]) -> None:
    """Raises PrerequisiteError if one of `packages` (name -> our extra) is not installed."""
    for package, extra in packages.items():
        if find_spec(package) is None:
            raise PrerequisiteError(
                f"{architecture} needs the package {package}, which is not installed; "
                f"pip install 'ovmer[{extra}]'"
            )


def check_inputs(processor: "ChatProcessor", modalities: frozenset[str], picture: str) -> None:
    """Raises PrerequisiteError if the processor does not take one of the modalities.

    `picture` is how frames are passed: as a `video` or as `images`.
    """
    name = processor.name
    if AUDIO in modalities and not processor.takes("audio"):
        raise PrerequisiteError(
            f"this model hears nothing (its {name} takes no sound); set baseline.modalities=video"
        )
    medium = "video" if picture == "video" else "image"
    if VIDEO not in modalities or processor.takes(medium):
        return
    if medium == "video" and processor.takes("image"):
        raise PrerequisiteError(
            f"this model takes no video (its {name} has no input for it), but images; set "
            "baseline.picture=images"
        )
    raise PrerequisiteError(
        f"this model sees nothing (its {name} takes no {medium}); set baseline.modalities=audio"
    )
