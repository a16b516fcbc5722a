"""The page of a running sweep: written anew whenever a run folder changes."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.folder.run_folder import find_folders
from ovmer.runners.progress import say

_WRITTEN_TO = ("run.json", "predictions.jsonl", "labels.jsonl", "scores.json")

State = dict[Path, tuple[int, int]]
"""Size and time of change of each file of the runs."""


def watch(write: Callable[[float], None], paths: Sequence[Path], seconds: float) -> None:
    """Call `write(seconds)` when the runs below `paths` change, checked every `seconds`.

    Ends with Ctrl-C, by a last `write(0)`: a page that does not load itself anew.
    """
    before: State | None = None
    try:
        while True:
            now = _state(paths)
            if now != before:
                try:
                    write(seconds)
                except PrerequisiteError as error:  # a folder may be half made at this moment
                    if before is None:
                        say(f"waiting: {error}")
                before = now
            time.sleep(seconds)
    except KeyboardInterrupt:
        write(0)


def _state(paths: Sequence[Path]) -> State:
    found: State = {}
    for folder in find_folders([path for path in paths if path.is_dir()]):
        for name in _WRITTEN_TO:
            try:
                status = os.stat(folder / name)
            except FileNotFoundError:
                continue
            found[folder / name] = status.st_size, status.st_mtime_ns
    return found
