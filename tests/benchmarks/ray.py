"""Two Ray workers against one: `python -m tests.benchmarks.ray [CLIPS]`.

Each worker has one core and decodes eight frames and the sound of every clip; nothing is generated,
so decoding is all there is. The rate is taken between a half and nine tenths of the clips, where
all workers are at work; the whole time, with their start, stands beside it. Two should be at least
1.7 times as fast as one.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import ray

from ovmer.runners.data import read_dataset
from ovmer.runners.describing.launchers import make_launcher
from ovmer.runners.describing.pipeline_settings import PipelineSettings
from ovmer.runners.sweeping.state import look
from tests.benchmarks.decoding import write_clips
from tests.runners.jobs import job

CLIPS = 2000
_EACH = ("launcher.cpus=1", "batch_size=4")


def main() -> None:
    """Print both rates and their ratio."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else CLIPS
    # Ray gives way to everything else on the machine, which would be measured as well.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - so Ray spells it
    ray.init(num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        overrides = write_clips(Path(folder, "data"), count)
        rates = [_rate(workers, [*overrides, f"outputs={folder}/out"]) for workers in (1, 2)]
    print(f"ratio {rates[1] / rates[0]:.2f} (at least 1.7), {os.cpu_count()} cores")
    ray.shutdown()


def _rate(workers: int, overrides: list[str]) -> float:
    """Clips a second with `workers` workers."""
    made = job(*overrides, "launcher=ray", f"launcher.workers={workers}", *_EACH)
    requests = look(made, read_dataset(made.settings.dataset)).to_describe
    launcher = make_launcher(made.settings.launcher, PipelineSettings.of(made, made.adapter))
    started, times = time.perf_counter(), list[float]()
    for done in launcher.describe(requests):
        assert not done.failed, done.error
        times.append(time.perf_counter() - started)
    first, last = len(times) // 2, len(times) * 9 // 10
    rate = (last - first) / (times[last] - times[first])
    print(f"{workers} workers: {rate:.1f} clips/s; {len(times)} clips in {times[-1]:.1f} s in all")
    return rate


if __name__ == "__main__":
    main()
