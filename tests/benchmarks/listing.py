"""What many files cost before a model runs: `python -m tests.benchmarks.listing`.

10,000 small files in 100 nested folders are listed and looked at (sizes and dates) as clips of
one's own; 20,000 names are matched to files exactly, and by looser rules (case, ending).
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ovmer.runners.data import read_dataset
from ovmer.runners.data.finder import Finder
from ovmer.runners.sweeping.state import look
from tests.runners.jobs import job

FILES, FOLDERS, NAMES = 10_000, 100, 20_000


def timed(what: str, call: Callable[[], object]) -> None:
    """Print how long a call takes."""
    started = time.perf_counter()
    call()
    print(f"{what}: {time.perf_counter() - started:.2f} s")


def own_clips(root: Path) -> None:
    """Clips of one's own, as a sweep lists them and looks at them."""
    for number in range(FILES):
        folder = root / f"{number % FOLDERS % 10}" / f"{number % FOLDERS}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.mp4").write_bytes(b"x")
    wanted = job("baseline=random", f"clips={root}", f"outputs={root / 'outputs'}")
    timed(f"{FILES:,} files listed", lambda: read_dataset(wanted.settings.dataset))
    clips = read_dataset(wanted.settings.dataset)
    assert len(clips) == FILES
    timed(f"{FILES:,} files looked at", lambda: look(wanted, clips))


def names(root: Path) -> None:
    """Names of a table matched to files, by each rule."""
    (root / "video").mkdir()
    for number in range(NAMES):
        (root / "video" / f"Clip_{number}.MP4").touch()
    for rule, name in (("exactly", "Clip_{}"), ("in other case", "clip_{}")):
        for pattern in ("video/{name}.MP4", "video/{name}.avi"):
            finder = Finder(root, "video", [pattern], True)
            found = [name.format(number) for number in range(NAMES)]
            ending = "" if pattern.endswith("MP4") else ", with another ending"
            timed(
                f"{NAMES:,} names matched {rule}{ending}",
                lambda finder=finder, found=found: [finder.find(each) for each in found],
            )
            assert finder.find(found[-1]) == root / "video" / f"Clip_{NAMES - 1}.MP4"


def main() -> None:
    """Measure both."""
    for measure in (own_clips, names):
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder))


if __name__ == "__main__":
    main()
