"""Following jobs by `squeue`: here a script in its place."""

import os

import pytest

from ovmer.runners import cli
from ovmer.runners.sweeping import queue
from tests import processes

STATES = """\
#!/bin/sh
echo >> {calls}
case $(wc -l < {calls}) in
    1|2) echo "Unable to contact slurm controller" >&2; exit 1;;
    3) echo "7|PENDING|PartitionTimeLimit"; echo "8|RUNNING|None";;
    4) echo "7|RUNNING|None"; echo "8|TIMEOUT|TimeLimit";;
    *) echo "8|TIMEOUT|TimeLimit";;
esac
"""


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    script = tmp_path / "squeue"
    script.write_text(STATES.format(calls=tmp_path / "calls"))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(queue, "_POLL_SECONDS", 0.0)


def test_states_are_said_with_their_reasons_and_silence_once(squeue, capsys):
    ended = list(queue.ended({"7": "otter", "8": "salmonn"}))
    assert ended == [("8", "TIMEOUT"), ("7", "GONE")]
    said = [line.strip() for line in capsys.readouterr().err.splitlines()]
    assert said == [
        "squeue does not answer (Unable to contact slurm controller); the jobs go on, and it is "
        "asked again",
        "pending       otter, slurm job 7 (PartitionTimeLimit)",
        "running       salmonn, slurm job 8",
        "running       otter, slurm job 7",
    ]


def test_a_cluster_without_accounting_is_not_asked_for_it(tmp_path):
    """submitit would run `sacct` at every poll, and warn each time that it fails."""
    answers = {"sbatch": "Submitted batch job 7", "squeue": "7|TIMEOUT|TimeLimit", "srun": ""}
    for name, answer in answers.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{answer}'\n")
    (tmp_path / "sacct").write_text(f"#!/bin/sh\ntouch {tmp_path}/was_asked\nexit 1\n")
    for name in (*answers, "sacct"):
        (tmp_path / name).chmod(0o755)
    sweep = ["sweep", "-m", "baseline=random", "dataset=sample", "hydra/launcher=submitit_slurm"]
    path = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = processes.run(sweep, tmp_path, environment=path)
    assert done.returncode == cli.FAILED
    assert "random ran out of time on the cluster" in done.stderr
    assert "sacct" not in done.stderr
    assert not (tmp_path / "was_asked").exists()
