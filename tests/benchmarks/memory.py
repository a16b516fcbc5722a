"""Memory and open files over a long run: `python -m tests.benchmarks.memory [CLIPS]`.

The command describes 5,000 clips that are really decoded, in a process of its own; its resident
memory and its file handles are read from outside at every tenth record, since decoded clips that
wait for their batch come and go. The slope is that of a line through all but the first thousand,
and should be under 1 MB per 1,000 clips.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.benchmarks.decoding import write_clips

CLIPS = 5000
WARM_UP = 0.2  # of the clips
EVERY = 10


def main() -> None:
    """Print what was seen, and both slopes."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else CLIPS
    with tempfile.TemporaryDirectory() as folder:
        overrides = write_clips(Path(folder, "data"), count)
        arguments = ["sweep", *overrides, f"outputs={folder}/outputs", "batch_size=4"]
        process = subprocess.Popen(
            [sys.executable, "-m", "ovmer", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seen = _watch(process, Path(folder, "outputs"), count)
    if process.returncode:
        raise SystemExit(f"the run ended with status {process.returncode}")
    for done, megabytes, handles in seen[:: max(len(seen) // 10, 1)]:
        print(f"{done:6.0f} clips: {megabytes:7.1f} MB, {handles:3.0f} files")
    warm = seen[seen[:, 0] >= WARM_UP * count]
    memory, files = (np.polyfit(warm[:, 0], warm[:, column], 1)[0] * 1000 for column in (1, 2))
    print(f"slope {memory:.2f} MB (under 1) and {files:.2f} files per 1,000 clips")


def _watch(process: "subprocess.Popen[bytes]", outputs: Path, count: int) -> "np.ndarray":
    """Rows of clips done, megabytes resident, open files, while there are clips left."""
    rows = list[tuple[float, float, float]]()
    while process.poll() is None:
        time.sleep(0.05)
        done = sum(path.read_bytes().count(b"\n") for path in outputs.glob("*/*/predictions.jsonl"))
        if done < count and done // EVERY > (rows[-1][0] // EVERY if rows else 0):
            try:
                pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                handles = len(os.listdir(f"/proc/{process.pid}/fd"))
            except OSError:  # it has ended in between
                break
            rows.append((done, pages * os.sysconf("SC_PAGE_SIZE") / 2**20, handles))
    process.wait()
    return np.array(rows)


if __name__ == "__main__":
    main()
