"""How fast a table is made, and a data set checked.

    python -m tests.benchmarks.tables

15 baselines on the nine data sets of MER-UniBench, with the intervals and the plot, from generated
run folders; and the probe of a thousand clips.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ovmer.runners.papers.layout import read_layout
from tests import ROOT
from tests.data.layouts import write_dataset
from tests.runners.folders import write_unibench


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        rows = [row.baseline for row in read_layout("mer_unibench").rows if row.baseline]
        write_unibench(folder / "outputs", list(dict.fromkeys(rows))[:15])
        print("table of 15 baselines x 9 data sets, md, tex, csv, png")
        timed(folder, "tables", "outputs", "layout=mer_unibench")
        root = write_dataset(folder, "meld", clips=1000)
        print("check of 1,000 clips: video, audio and faces")
        timed(folder, "check", "dataset=meld", f"data_root={root.parent}")


def timed(folder: Path, *arguments: str) -> None:
    begin, before = time.monotonic(), os.times()
    subprocess.run(
        [sys.executable, "-m", "ovmer", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    after = os.times()
    spent = after.children_user + after.children_system
    spent -= before.children_user + before.children_system
    print(f"  {time.monotonic() - begin:5.1f} s, {spent:5.1f} s of them on the processor")


if __name__ == "__main__":
    main()
