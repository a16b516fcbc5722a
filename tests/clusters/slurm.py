"""What can happen to a job, on a real Slurm: `python -m tests.clusters.slurm FOLDER [CASE...]`.

Starts the Slurm of slurm.sh in FOLDER (as root; apt-get install slurm-wlm munge), does to a running
sweep what a cluster does, and prints after how many seconds the sweep said so; each such sentence
has 30 s. `ACCOUNTING=1` runs it with accounting. A quarter of an hour.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clusters.sweeps import CLIPS, Sweep, called, require_known, write_data

SLURM = "hydra/launcher=submitit_slurm"
SLOW = ("baseline=scripted", "batch_size=1", "baseline.needs.mem_gb=1", "baseline.needs.gpus=0")
_SCRIPT = str(Path(__file__).with_name("slurm.sh"))


class Trial:
    """The folder of one case, with its data set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.data = write_data(folder)

    @contextmanager
    def sweep(self, *arguments: str, **environment: str) -> Iterator[Sweep]:
        """A sweep on Slurm; what of it still runs is ended."""
        made = Sweep(self.folder, "-m", *arguments, *self.data, SLURM, **environment)
        try:
            yield made
        finally:
            made.kill()

    def slow(self, seconds: float = 0.5) -> tuple[str, ...]:
        return *SLOW, f"baseline.generate_seconds={seconds}"


def job_of(sweep: Sweep) -> str:
    """The number of the first job that was handed over."""
    sweep.wait_for("as slurm job")
    return next(found[1] for line in sweep.lines if (found := re.search(r"slurm job (\d+)", line)))


def require_whole(sweep: Sweep) -> None:
    """All clips, as if undisturbed."""
    assert sweep.end() == 0, "\n".join(sweep.lines)
    for words in sweep.words().values():
        assert sorted(words) == CLIPS
        assert len(set(words.values())) == 1, "the script says one sentence of all clips"


def resumed(trial: Trial, *arguments: str) -> None:
    with trial.sweep(*arguments) as again:
        require_whole(again)


def cancelled(trial: Trial) -> float:
    with trial.sweep(*trial.slow()) as sweep:
        sweep.wait_for_clips(5)
        called(["scancel", job_of(sweep)])
        seconds = sweep.wait_for(
            r"scripted\S* was cancelled on the cluster; see .*_log\.err; the same"
        )
        assert sweep.end() == 1
    resumed(trial, *trial.slow())
    return seconds


def preempted(trial: Trial) -> float:
    with trial.sweep(*trial.slow(), "hydra.launcher.partition=gpu") as sweep:
        sweep.wait_for_clips(5)
        called(["sbatch", "-p", "high", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 5"])
        seconds = sweep.wait_for(r"^  pending .*\(BeginTime\)|^  requeued")
        require_whole(sweep)
    return seconds


def out_of_time(trial: Trial) -> float:
    minutes = ("hydra.launcher.timeout_min=2", "hydra.launcher.partition=short")
    with trial.sweep(*trial.slow(1.5), *minutes) as sweep:
        sweep.wait_for_clips(1)
        seconds = sweep.wait_for(r"^  pending .*\(BeginTime\)|^  requeued", 120)
        require_whole(sweep)
    return seconds


def out_of_time_for_good(trial: Trial) -> float:
    limits = ("hydra.launcher.timeout_min=2", "hydra.launcher.max_num_timeout=0")
    with trial.sweep(*trial.slow(3.0), *limits) as sweep:
        seconds = sweep.wait_for(r"scripted\S* (ran out of time|died) on the cluster.*same", 180)
        assert sweep.end() == 1
        assert any("time" in line for line in sweep.lines if "on the cluster" in line)
    return seconds


def no_partition_for_it(trial: Trial) -> float:
    with trial.sweep(*trial.slow(), "hydra.launcher.partition=short") as sweep:
        seconds = sweep.wait_for(r"^  pending .*\(PartitionTimeLimit\)")
        job = job_of(sweep)
        sweep.interrupt()
        assert sweep.end(60) == 130
        assert "stopped; what was finished is kept" in sweep.lines[-1]
        time.sleep(2.0)
        assert "CANCELLED" in called(["squeue", "-j", job, "-h", "-t", "all", "-o", "%T"])
    return seconds


def killed_at_once(trial: Trial) -> float:
    with trial.sweep(*trial.slow(0.0), "+baseline.generate_fails.clip00=die") as sweep:
        sweep.wait_for("^  running")
        seconds = sweep.wait_for(r"scripted-.* died on the cluster \(.*\); see .*; the same")
        assert sweep.end() == 1
    return seconds


def node_lost(trial: Trial) -> float:
    with trial.sweep(*trial.slow()) as sweep:
        sweep.wait_for_clips(5)
        before = len(sweep.lines)
        called(["scontrol", "update", "nodename=localhost", "state=down", "reason=trial"])
        said = r"^  (pending|requeued) .*slurm job|lost its node on the cluster"
        seconds = sweep.wait_for(said, after=before)
        time.sleep(5.0)
        up = ["scontrol", "update", "nodename=localhost", "state=resume"]
        subprocess.run(up, check=False)  # refused where the node has come back by itself
        require_whole(sweep)
    return seconds


def already_running(trial: Trial) -> float:
    with trial.sweep(*trial.slow()) as first:
        first.wait_for_clips(5)
        with trial.sweep(*trial.slow()) as second:
            second.wait_for("^  running", 60)
            seconds = second.wait_for(r"another run is writing to .*\(log: .*_log\.err\)")
            assert second.end() == 1
        require_whole(first)
    return seconds


def thirty_jobs(trial: Trial) -> float:
    seeds = ",".join(map(str, range(30)))
    with trial.sweep(
        "baseline=lexicon", f"seed={seeds}", "hydra.launcher.cpus_per_task=8"
    ) as sweep:
        started = time.monotonic()
        assert sweep.end() == 0, "\n".join(sweep.lines)
        assert {len(words) for words in sweep.words().values()} == {len(CLIPS)}
        assert len(sweep.words()) == 30
    return time.monotonic() - started


def own_yaml(trial: Trial) -> float:
    yaml = trial.folder / "mine" / "baseline" / "slow.yaml"
    yaml.parent.mkdir(parents=True)
    yaml.write_text(
        "name: slow\nadapter: scripted\nneeds: {gpus: 0, cpus: 1, mem_gb: 1, minutes: 9}\n"
    )
    started = time.monotonic()
    with trial.sweep("--config-dir", "mine", "baseline=slow") as sweep:
        require_whole(sweep)
    return time.monotonic() - started


def named_and_chained(trial: Trial) -> float:
    """Variants have names of their own in `squeue`, and a combined run waits for its sources."""
    folder = trial_folder(trial)
    runs = ",".join(f"outputs/{folder}/{name}" for name in ("random-seed1", "random-seed2"))
    with trial.sweep("baseline=random,combined", f"combined.runs=[{runs}]", "seed=1,2") as sweep:
        seconds = sweep.wait_for(r"^  pending .*combined.*\(Dependency\)")
        names = called(["squeue", "--me", "-h", "-t", "all", "-o", "%j"]).split()
        assert {"random-seed1", "random-seed2"} <= set(names)
        assert sweep.end() == 0, "\n".join(sweep.lines)
    return seconds


def trial_folder(trial: Trial) -> str:
    from tests.runners.jobs import job

    return job("baseline=scripted", *trial.data).folder.parent.name


def source_cancelled(trial: Trial) -> float:
    folder = trial_folder(trial)
    names = "scripted-generate_seconds_0.5", "lexicon"
    runs = ",".join(f"outputs/{folder}/{name}" for name in names)
    arguments = ("baseline=scripted,lexicon,combined", f"combined.runs=[{runs}]", *SLOW[1:])
    with trial.sweep(*arguments, "scripted.generate_seconds=0.5") as sweep:
        sweep.wait_for_clips(5)
        called(["scancel", job_of(sweep)])
        seconds = sweep.wait_for(r"combined-.* was cancelled on the cluster")
        assert sweep.end() == 1
    return seconds


def squeue_silent(trial: Trial) -> float:
    fake = trial.folder / "bin" / "squeue"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2; exit 1\n")
    fake.chmod(0o755)
    path = f"{fake.parent}{os.pathsep}{os.environ['PATH']}"
    with trial.sweep(*trial.slow(0.05), PATH=path) as sweep:
        seconds = sweep.wait_for(r"squeue does not answer \(Unable to contact slurm controller\)")
        time.sleep(12.0)
        assert sum("does not answer" in line for line in sweep.lines) == 1
        fake.unlink()
        require_whole(sweep)
    return seconds


def without_data(trial: Trial) -> float:
    with trial.sweep(*trial.slow(0.0)) as sweep:
        sweep.wait_for("^  running", 60)
        seconds = sweep.wait_for(r"there is no .*\(log: .*_log\.err\)")
        assert sweep.end() == 1
        assert not any(sweep.words().values()), "nothing is recorded"
    return seconds


CASES: list[Callable[[Trial], float]] = [
    cancelled, preempted, out_of_time, out_of_time_for_good, no_partition_for_it, killed_at_once,
    node_lost, already_running, thirty_jobs, own_yaml, named_and_chained, source_cancelled,
    squeue_silent,
]  # fmt: skip


def main() -> None:
    """Run the cases that are named, or all; the one without data on a node of its own."""
    folder, wanted = Path(sys.argv[1]).resolve(), sys.argv[2:]
    require_known(wanted, [each.__name__ for each in (*CASES, without_data)])
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    shutil.rmtree(folder / "cases", ignore_errors=True)
    failed = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the daemons are ended
    with slurm(folder):
        for case in CASES:
            if not wanted or case.__name__ in wanted:
                failed += not tried(case, folder)
    if not wanted or without_data.__name__ in wanted:
        with slurm(folder, NODATA=str(folder / "cases" / without_data.__name__ / "data")):
            failed += not tried(without_data, folder)
    raise SystemExit(f"{failed} failed" if failed else 0)


@contextmanager
def slurm(folder: Path, **environment: str) -> Iterator[None]:
    if hidden := environment.get("NODATA"):
        Path(hidden).mkdir(parents=True)
    shutil.rmtree(folder / "state", ignore_errors=True)
    os.environ |= environment
    called([_SCRIPT, "start", str(folder)])
    try:
        time.sleep(3.0)  # until the node has joined
        yield
    finally:
        called([_SCRIPT, "stop", str(folder)])


def tried(case: Callable[[Trial], float], folder: Path) -> bool:
    try:
        at = folder / "cases" / case.__name__
        seconds = case(Trial(at))
    except (AssertionError, subprocess.SubprocessError) as error:
        print(f"{case.__name__:<22} FAILED {error}", flush=True)
        return False
    print(f"{case.__name__:<22} {seconds:5.1f} s", flush=True)
    return True


if __name__ == "__main__":
    main()
