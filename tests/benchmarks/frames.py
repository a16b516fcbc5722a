"""What the checked index and reading in child processes cost: `python -m tests.benchmarks.frames`.

200 clips of 5 s (H.264, 640 x 360, with sound or the .mp4 files of a folder that is given), eight
frames of each, read in turn as decord reads them in this process (`media.reader=decord
media.seconds=0`, as all were read before) and as they are read by default. The ratio of the medians
over clips should be at most 1.05.
"""

import statistics
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ovmer.adapters.media import MediaSettings, configure, read_frames, sampling

CLIPS, SECONDS, RATE = 200, 5, 25
BEFORE, NOW = MediaSettings("decord", 0), MediaSettings()


def write_clip(path: Path, seed: int) -> None:
    """Five seconds of moving noise."""
    rng = np.random.default_rng(seed)
    scene = np.kron(rng.integers(0, 255, (60, 107, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for number in range(SECONDS * RATE):
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(scene[number // 2 :, number:][:360, :640]), format="rgb24"
            )
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def seconds(path: Path, settings: MediaSettings, size: tuple[int, int] | None) -> float:
    """How long eight frames take."""
    configure(settings)
    started = time.perf_counter()
    read_frames(path, lambda count, fps: sampling.linspace(count, 8), size=size)
    return time.perf_counter() - started


def main() -> None:
    """Measure, and print the ratios."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary)
        if len(sys.argv) == 1:
            for number in range(20):
                write_clip(folder / f"{number}.mp4", number)
        files = sorted(folder.glob("*.mp4"))
        clips = [files[i % len(files)] for i in range(CLIPS)]
        for size in ((224, 224), None):
            for settings in (BEFORE, NOW):
                seconds(clips[0], settings, size)
            before, now = [], []
            for number, clip in enumerate(clips):
                order = [(BEFORE, before), (NOW, now)]
                for settings, times in order if number % 2 else order[::-1]:
                    times.append(seconds(clip, settings, size))
            ratio = statistics.median(now) / statistics.median(before)
            print(
                f"size {size}: {statistics.median(before) * 1e3:.1f} ms before, "
                f"{statistics.median(now) * 1e3:.1f} ms now, ratio {ratio:.3f}; "
                f"clips/s {CLIPS / sum(before):.1f} and {CLIPS / sum(now):.1f}"
            )


if __name__ == "__main__":
    main()
