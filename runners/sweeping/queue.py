"""Slurm jobs as `squeue` shows them: what each waits for, and how it ended.

submitit asks `sacct`, every ten minutes, which tells nothing on a cluster without accounting.
`squeue` works on every cluster, and shows a job for some minutes after its end (MinJobAge).
"""

import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ovmer.runners.progress import say

_POLL_SECONDS = 5.0
_ANSWER_SECONDS = 60.0
_LIVE = frozenset(
    "PENDING RUNNING SUSPENDED COMPLETING CONFIGURING RESIZING REQUEUED REQUEUE_HOLD "
    "REQUEUE_FED SPECIAL_EXIT STAGE_OUT STOPPED SIGNALING PREEMPTED".split()
)
"""States that another one follows (man squeue, "JOB STATE CODES")."""
_USUAL = frozenset({"None", "Priority", "Resources"})


@dataclass(frozen=True)
class QueueEntry:
    """A job in the queue."""

    state: str
    reason: str


def ended(labels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(id, last state) of each job as it ends; `labels` are by the jobs' ids.

    Changes of state are said meanwhile, with Slurm's reason. Where Slurm does not answer, that is
    said once, and it is asked again until it does.
    """
    left, before, is_silent = set(labels), dict[str, QueueEntry](), False
    while left:
        now = _queue()
        if isinstance(now, str):
            if not is_silent:
                say(f"  squeue does not answer ({now}); the jobs go on, and it is asked again")
            is_silent = True
        else:
            is_silent = False
            for each in sorted(left):
                seen = now.get(each, QueueEntry("GONE", ""))
                if seen.state not in _LIVE:
                    left.remove(each)
                    yield each, seen.state
                elif seen != before.get(each):
                    reason = f" ({seen.reason})" if seen.reason not in _USUAL else ""
                    say(f"  {seen.state.lower():<13} {labels[each]}, slurm job {each}{reason}")
                    before[each] = seen
        if left:
            time.sleep(_POLL_SECONDS)


def _queue() -> dict[str, QueueEntry] | str:
    """The jobs of this user by id, or why Slurm does not say."""
    asked = ["squeue", "--me", "--noheader", "--states=all", "--format=%i|%T|%r"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=_ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        return f"nothing in {_ANSWER_SECONDS:g} s"
    except OSError as error:
        return str(error)
    if done.returncode:
        return " ".join(done.stderr.split())
    rows = [line.split("|") for line in done.stdout.splitlines()]
    return {name: QueueEntry(state, reason) for name, state, reason in rows}
