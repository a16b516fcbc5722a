"""How well decoding hides behind generating: `python -m tests.benchmarks.overlap [FOLDER]`.

One thread decodes eight frames of each clip, for real; the generator only waits, as long as the
decoding takes, as a processor does while its GPU works. Were nothing hidden the run would take the
sum of both; the ratio is its time over the longer of the two, and should be at most 1.25. The
videos are those of the sample data set, or the .mp4 files of the folder.
"""

import sys
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

from ovmer.adapters import media
from ovmer.adapters.base import VIDEO, Adapter, Prepared
from ovmer.runners.describing.pipeline import Pipeline
from ovmer.runners.describing.requests import ClipRequest
from tests import SAMPLE

CLIPS = 120
BATCH = 4
REPEATS = 3


class Decoding(Adapter):
    """Decodes as a model would, then waits `seconds` for each clip."""

    modalities = frozenset({VIDEO})

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        assert video is not None
        return Prepared(media.read_frames(video, _eight, size=(224, 224)))

    def generate(self, batch: list[Prepared]) -> Sequence[str]:
        time.sleep(self.seconds * len(batch))
        return ["fine"] * len(batch)


def _eight(count: int, fps: float) -> list[int]:
    return media.sampling.linspace(count, 8)


def main() -> None:
    """Print the three times and the ratio."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE / "video"
    if not any(folder.glob("*.mp4")):
        raise SystemExit(f"there are no .mp4 files in {folder}")
    videos = list(islice(cycle(sorted(folder.glob("*.mp4"))), CLIPS))
    requests = [ClipRequest(f"{i}", path, None, None, (), {}) for i, path in enumerate(videos)]
    _seconds(requests, 0.0)  # imports, and the files into memory
    ratios = []
    for _ in range(REPEATS):
        decoding = _seconds(requests, 0.0)
        both = _seconds(requests, decoding / CLIPS)
        ratios.append(both / decoding)
        print(f"{CLIPS} clips: decoding {decoding:.2f} s, with as long a generator {both:.2f} s")
    print(f"ratio {min(ratios):.2f} (at most 1.25; without overlap 2)")


def _seconds(requests: Sequence[ClipRequest], generating: float) -> float:
    pipeline = Pipeline(Decoding(generating), seed=0, batch_size=BATCH, workers=1, strict=True)
    started = time.perf_counter()
    for _ in pipeline.describe(requests):
        pass
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
