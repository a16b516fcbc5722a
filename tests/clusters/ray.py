"""A Ray of two nodes, and what can happen to it: `python -m tests.clusters.ray FOLDER [CASE...]`.

Needs root: the second node lives in a network namespace of its own, joined by a pair of virtual
cards. Each case prints after how many seconds the sweep said what had happened. `... FOLDER CASE`
runs one; `combinations` runs 40 runs of few clips, each compared with the run without Ray.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from tests.clusters.sweeps import CLIPS, Sweep, called, require_known, write_data

HEAD, SECOND, PORT = "10.99.0.1", "10.99.0.2", 6399
ADDRESS = f"launcher.address='{HEAD}:{PORT}'"
NAMESPACE, CARDS = "ovmer-trial", ("ovmer0", "ovmer1")
SLOW = ("baseline=scripted", "batch_size=1", "baseline.generate_seconds=0.5")
SLOWER = (*SLOW[:2], "baseline.generate_seconds=3")
_RAY = str(Path(sys.executable).with_name("ray"))
COMBINATIONS, SECONDS_EACH = 40, 60.0


@contextmanager
def two_networks() -> Iterator[None]:
    """Two addresses that reach each other, the second in the namespace."""
    inside = ["ip", "netns", "exec", NAMESPACE]
    called(["ip", "netns", "add", NAMESPACE])
    try:
        called(["ip", "link", "add", CARDS[0], "type", "veth", "peer", "name", CARDS[1]])
        called(["ip", "link", "set", CARDS[1], "netns", NAMESPACE])
        called(["ip", "addr", "add", f"{HEAD}/24", "dev", CARDS[0]])
        called(["ip", "link", "set", CARDS[0], "up"])
        called([*inside, "ip", "addr", "add", f"{SECOND}/24", "dev", CARDS[1]])
        called([*inside, "ip", "link", "set", CARDS[1], "up"])
        called([*inside, "ip", "link", "set", "lo", "up"])
        yield
    finally:
        called(["ip", "netns", "del", NAMESPACE])  # and with it both cards


class Node:
    """`ray start`, held in the foreground."""

    def __init__(self, folder: Path, *how: str, before: tuple[str, ...] = ()) -> None:
        self._log = (folder / f"ray{time.monotonic_ns()}.log").open("w")
        self._process = subprocess.Popen(
            [*before, _RAY, "start", *how, "--block", "--num-cpus=2", "--disable-usage-stats",
             "--object-store-memory=80000000"],
            env=os.environ | {"RAY_worker_niceness": "0"},
            stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip

    def kill(self) -> None:
        """SIGKILL to all its processes, as when a machine dies."""
        family = [*psutil.Process(self._process.pid).children(recursive=True), self._process]
        for each in family:
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                each.send_signal(signal.SIGKILL)
        self._process.wait()
        self._log.close()


class Trial:
    """The folder of one case, its data set, and the nodes that it starts."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        folder.mkdir(parents=True)
        self.data = write_data(folder)
        self.nodes = list[Node]()
        stack.callback(self._end)

    def _end(self) -> None:
        for node in reversed(self.nodes):
            node.kill()

    def start_head(self) -> Node:
        how = ("--head", f"--node-ip-address={HEAD}", f"--port={PORT}")
        self.nodes.append(Node(self.folder, *how, "--include-dashboard=false"))
        self._require_nodes(1)
        return self.nodes[-1]

    def start_second(self, *before: str) -> Node:
        inside = ("ip", "netns", "exec", NAMESPACE, *before)
        how = (f"--address={HEAD}:{PORT}", f"--node-ip-address={SECOND}")
        self.nodes.append(Node(self.folder, *how, before=inside))
        self._require_nodes(2)
        return self.nodes[-1]

    def _require_nodes(self, count: int) -> None:
        code = (
            f"import ray; ray.init('{HEAD}:{PORT}', log_to_driver=False, logging_level='ERROR')\n"
            "raise SystemExit(sum(each['Alive'] for each in ray.nodes()))"
        )
        for _ in range(30):
            done = subprocess.run([sys.executable, "-c", code], capture_output=True)
            if done.returncode == count:
                return
            time.sleep(1.0)
        raise AssertionError(f"the cluster has {done.returncode} nodes: {done.stderr.decode()}")

    @contextmanager
    def sweep(self, *arguments: str, **environment: str) -> Iterator[Sweep]:
        ray = ("launcher=ray", "launcher.cpus=1", ADDRESS)
        made = Sweep(self.folder, *self.data, *ray, *arguments, **environment)
        try:
            yield made
        finally:
            made.kill()


def require_whole(sweep: Sweep) -> None:
    """Each clip once, and no failure."""
    assert sweep.end(120) == 0, "\n".join(sweep.lines)
    for path in sweep.outputs.glob("*/*/predictions.jsonl"):
        assert path.read_bytes().count(b"\n") == len(CLIPS), "nothing twice"
    assert all(sorted(words) == CLIPS for words in sweep.words().values())


def two_nodes(trial: Trial) -> float:
    trial.start_head()
    trial.start_second()
    started = time.monotonic()
    with trial.sweep(*SLOW) as sweep:
        require_whole(sweep)
    return time.monotonic() - started


def second_killed(trial: Trial) -> float:
    trial.start_head()
    second = trial.start_second()
    with trial.sweep(*SLOWER) as sweep:
        sweep.wait_for_clips(12)
        second.kill()
        trial.nodes.remove(second)
        seconds = sweep.wait_for(r"a Ray worker died \(.*\); \d+ of its clips are sent again")
        require_whole(sweep)
    assert sum("raylet" in line for line in sweep.lines) < 5, "\n".join(sweep.lines)
    return seconds


def head_killed(trial: Trial) -> float:
    head = trial.start_head()
    with trial.sweep(*SLOW) as sweep:
        sweep.wait_for_clips(12)
        head.kill()
        trial.nodes.remove(head)
        seconds = sweep.wait_for(r"the Ray cluster .* is gone; what was finished is kept", 60)
        assert sweep.end(30) == 2
    assert len(sweep.lines) < 8, "\n".join(sweep.lines)
    trial.start_head()
    with trial.sweep(*SLOW) as sweep:
        require_whole(sweep)
    return seconds


def wrong_address(trial: Trial) -> float:
    started = time.monotonic()
    with trial.sweep(*SLOW) as sweep:
        sweep.wait_for(r"no Ray cluster was joined at .*refused\)")
        assert sweep.end(10) == 2
    return time.monotonic() - started


def token(trial: Trial) -> float:
    home = {"HOME": str(trial.folder)}
    (trial.folder / ".ray").mkdir()
    (trial.folder / ".ray" / "auth_token").write_text("a" * 64)
    before = dict(os.environ)
    os.environ |= {"RAY_AUTH_MODE": "token", **home}
    try:
        trial.start_head()
        with trial.sweep(*SLOW) as sweep:
            require_whole(sweep)
    finally:
        os.environ |= before
    started = time.monotonic()
    with trial.sweep(*SLOW, "redo=true", **home) as sweep:
        sweep.wait_for(r"the Ray cluster at .* asks for a token; set RAY_AUTH_MODE=token", 60)
        assert sweep.end(10) == 2
    assert len(sweep.lines) < 8, "\n".join(sweep.lines)
    return time.monotonic() - started


def without_data(trial: Trial) -> float:
    empty = trial.folder / "empty"
    empty.mkdir()
    hide = f"mount --bind '{empty}' '{trial.folder / 'data'}' && exec \"$@\""
    trial.start_head()
    trial.start_second("unshare", "-m", "sh", "-c", hide, "sh")
    started = time.monotonic()
    with trial.sweep(*SLOW) as sweep:
        sweep.wait_for(r"the Ray worker on .* does not see .*; mount the data set under", 60)
        seconds = time.monotonic() - started
        require_whole(sweep)
    return seconds


def combinations(trial: Trial) -> float:
    """Clips, CPUs, decoding threads and batch sizes, drawn; the longest run is returned."""
    import ray

    from ovmer.runners.sweeping.work import work
    from tests.runners.jobs import job

    drawn, longest = random.Random(0), 0.0
    base = (*trial.data, f"outputs={trial.folder / 'out'}", "baseline=lexicon")
    ray.init("local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
    try:
        for number in range(COMBINATIONS):
            how = (
                f"limit={drawn.randint(1, 60)}",
                f"workers={drawn.choice([0, 1, 3, 8, 40])}",
                f"batch_size={drawn.choice([1, 2, 3, 8, 64])}",
            )
            cpus = f"launcher.cpus={drawn.choice([1, 2])}"
            started = time.monotonic()
            shared = job(*base, *how, "launcher=ray", cpus, f"variant=ray{number}")
            signal.alarm(int(SECONDS_EACH))  # ends the whole trial
            words = work(shared).predictions
            signal.alarm(0)
            longest = max(longest, time.monotonic() - started)
            alone = work(job(*base, *how, f"variant=alone{number}")).predictions
            assert {n: (p.status, p.description) for n, p in words.items()} == {
                n: (p.status, p.description) for n, p in alone.items()
            }, (how, cpus)
    finally:
        ray.shutdown()
    return longest


CASES: list[Callable[[Trial], float]] = [
    two_nodes, second_killed, head_killed, wrong_address, token, without_data, combinations,
]  # fmt: skip


def main() -> None:
    """Run the cases that are named, or all."""
    folder, wanted = Path(sys.argv[1]).resolve(), sys.argv[2:]
    require_known(wanted, [each.__name__ for each in CASES])
    # Ray takes a token where an earlier cluster has left one in the home directory.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    os.environ["RAY_TMPDIR"] = str(folder)  # where others would look for a cluster that runs here
    os.environ["RAY_raylet_start_wait_time_s"] = "120"  # noqa: SIM112
    failed = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the nodes are ended
    with two_networks():
        for case in CASES:
            if wanted and case.__name__ not in wanted:
                continue
            shutil.rmtree(folder / case.__name__, ignore_errors=True)
            try:
                with ExitStack() as stack:
                    seconds = case(Trial(folder / case.__name__, stack))
                print(f"{case.__name__:<16} {seconds:5.1f} s", flush=True)
            except (AssertionError, subprocess.SubprocessError) as error:
                failed += 1
                print(f"{case.__name__:<16} FAILED {error}", flush=True)
    raise SystemExit(f"{failed} failed" if failed else 0)


if __name__ == "__main__":
    main()
