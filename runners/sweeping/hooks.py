"""Functions of other packages that are called when a run has ended, to log it elsewhere.

A package names them in the entry-point group `ovmer.on_run_end`; each is called with the path of
the run folder. It reads what it needs by `ovmer.read_runs(folder)`.
"""

from importlib.metadata import entry_points
from pathlib import Path

from ovmer.runners.progress import say

GROUP = "ovmer.on_run_end"


def run_ended(folder: Path) -> None:
    """Call every installed hook. A failing one is reported; the run is unchanged."""
    for hook in entry_points(group=GROUP):
        try:
            hook.load()(folder)
        except Exception as error:  # the code of others, after all that we do is on disk
            say(f"the hook {hook.name} ({hook.value}) failed: {type(error).__name__}: {error}")
