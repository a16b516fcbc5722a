"""List the baselines.

Those of this project come from conf/baseline/, with what they use of a clip and how far they can be
trusted to be what they are called (`status`); those of other packages are named, but not imported,
and with --config-dir those of your own folder are listed too.
Sizes in GB are about those of the files, and of a GPU that holds them with one clip in the type of
the authors' run; a question mark stands where the size of a part is not known. No time a clip is on
record: none was run with its published weights.
"""

from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from ovmer.adapters import registry
from ovmer.adapters.base import AUDIO, MEDIA, SUBTITLE, VIDEO
from ovmer.runners import cli
from ovmer.runners.commands.arguments import parse
from ovmer.runners.config import own_baselines, shipped_baselines

_CLIP_GB = 3
"""Of a GPU beside the weights: CUDA's own share, activations, and the keys of one clip."""

STATUS = {
    "golden": "our port; agrees, stage by stage, with numbers recorded from the authors' own code",
    "library": "the class that transformers has for it; compared with no other code",
    "outside": "depends on the model behind it",
    "rule": "no model of its own",
}
"""The values of `status` in conf/baseline/*.yaml, and what they mean."""


@cli.command
def main() -> int:
    """The command: print the table."""
    folder = parse(__doc__, config_dir=True).config_dir
    listed = {**shipped_baselines(), **(own_baselines(folder) if folder else {})}
    rows = [_row({"name": name, "title": name, **each}) for name, each in listed.items()]
    built_in = registry.BUILT_IN
    rows += [
        [each.name, "", "", f"plug-in {each.source}", "", "", ""]
        for each in registry.names()
        if each.name not in built_in
    ]
    heads = ["baseline", "name in tables", "uses", "adapter", "status", "GB", "GPU GB"]
    print(tabulate(rows, heads, disable_numparse=True))
    print()
    print("\n".join(f"{word}: {meaning}" for word, meaning in STATUS.items()))
    return cli.FINE


def _row(settings: dict[str, Any]) -> list[str]:
    uses = registry.get(settings["adapter"]).modalities
    if chosen := settings.get("modalities"):  # a setting of some adapters
        if isinstance(chosen, list):
            uses = frozenset(chosen)
        else:
            uses = (MEDIA if chosen == "both" else frozenset({chosen})) | {SUBTITLE}
    kinds = [kind for kind in (VIDEO, AUDIO, SUBTITLE) if kind in uses]
    status = settings.get("status", "")
    sizes = _sizes(settings.get("checkpoint") or {}, str(settings.get("dtype")))
    return [
        settings["name"],
        settings["title"],
        " ".join(kinds),
        settings["adapter"],
        status,
        *sizes,
    ]


def _sizes(parts: Mapping[str, Mapping[str, Any]], dtype: str) -> tuple[str, str]:
    """GB of the files, and of a GPU; most files are in half precision."""
    known = [part.get("gb") for part in parts.values()]
    total = sum(gb or 0 for gb in known)
    if not parts or total < 0.05:
        return ("?", "?") if parts else ("", "")
    mark = "" if all(known) else "?"
    gpu = total * (2 if dtype == "float32" else 1) + _CLIP_GB
    return f"{total:.0f}{mark}", f"{gpu:.0f}{mark}"
