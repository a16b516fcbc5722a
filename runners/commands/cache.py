"""Show the user's cache folder, or clear parts of it.

    ovmer cache
    ovmer cache clear=llm

settings:
  clear=KIND   remove one of the folders listed, or all of them with clear=all
"""

import shutil

from tabulate import tabulate

from ovmer.baselines.cache import KINDS, cache_folder
from ovmer.baselines.errors import one_of
from ovmer.runners import cli
from ovmer.runners.commands.arguments import parse


@cli.command
def main() -> int:
    """Print a line for each folder, after clearing what is to be cleared."""
    clear = parse(__doc__, ("clear",)).settings.get("clear")
    if clear is not None:
        one_of("clear", clear, (*KINDS, "all"))
    rows = []
    for kind, holds in KINDS.items():
        folder = cache_folder(kind)
        if clear in (kind, "all") and folder.exists():
            shutil.rmtree(folder)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        rows.append([kind, f"{size / 1e9:.3f} GB", holds, folder])
    print(tabulate(rows, ["kind", "size", "holds", "folder"], disable_numparse=True))
    return cli.FINE
