"""What asking another Python costs: `python -m tests.benchmarks.external [interpreter]`.

A worker that answers at once, so that all of the time is the line protocol's; first by the adapter
alone, then as a sweep has it, with records that are written one by one.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ovmer.adapters.base import Machine, Prepared
from ovmer.adapters.external import External
from tests.benchmarks.throughput import measure
from tests.runners.conftest import write_tables

CALLS = 5_000
AT_LEAST = 500
WORKER = """\
import json, sys
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps({"id": request["id"], "text": "The person is calm."}), flush=True)
"""


def main() -> None:
    """Print each figure beside what it should be."""
    python = sys.argv[1] if len(sys.argv) > 1 else sys.executable
    version = subprocess.run([python, "--version"], capture_output=True, text=True, check=True)
    with tempfile.TemporaryDirectory() as folder:
        worker = Path(folder, "worker.py")
        worker.write_text(WORKER, encoding="utf-8")
        calls, clips = CALLS / _calls(python, worker), CALLS / _sweep(python, worker)
    print(f"{calls:6.0f} calls a second (at least {AT_LEAST})")
    print(f"{clips:6.0f} clips a second of a sweep, its start and its table included")
    print(f"with a worker in {version.stdout.strip()}")


def _calls(python: str, worker: Path) -> float:
    adapter = External(python=python, worker=str(worker))
    adapter.load(Machine())
    item = Prepared((Path("/data/video/sample_00000001.mp4"), None, "I'm fine, thank you."))
    started = time.perf_counter()
    for _ in range(CALLS):
        adapter.generate([item])
    seconds = time.perf_counter() - started
    adapter.close()
    return seconds


def _sweep(python: str, worker: Path) -> float:
    root = write_tables(worker.parent / "data", [f"sample_{n:08}" for n in range(CALLS)])
    words = f"""sweep baseline=external
        baseline.python={python} baseline.worker={worker}
        dataset=ovmerd dataset.root={root} dataset.check_files=false
        outputs={worker.parent}/outputs"""
    seconds, _, _ = measure(words.split())
    return seconds


if __name__ == "__main__":
    main()
