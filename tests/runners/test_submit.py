"""Jobs handed to submitit: which, and asking what. The local kind runs here for real."""

import json
import os
import re
from functools import partial
from pathlib import Path

import pytest

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.describing.ray_workers import RayOptions, WorkerShare
from ovmer.runners.sweeping import submit
from tests import processes
from tests.runners.jobs import job


def asked(*overrides):
    made = job(*(each for each in overrides if not each.startswith("hydra")))
    return submit.options_for(made, [each for each in overrides if each.startswith("hydra")])


SLURM = "hydra/launcher=submitit_slurm"


def test_each_baseline_asks_for_what_it_needs():
    model, words = asked("baseline=video_llava", SLURM), asked("baseline=lexicon", SLURM)
    assert [model[key] for key in ("gpus_per_node", "mem_gb", "timeout_min")] == [1, 64, 720]
    assert [words[key] for key in ("gpus_per_node", "mem_gb", "timeout_min")] == [0, 4, 60]


def test_a_job_is_named_after_its_run():
    assert asked("baseline=random", "seed=3", SLURM)["name"] == "random-seed3"
    assert asked("baseline=random", SLURM, "hydra.launcher.name=mine")["name"] == "mine"


def test_the_command_line_may_ask_for_something_else():
    more = ("baseline.needs.mem_gb=90", "hydra.launcher.partition=gpu", "hydra.launcher.qos=low")
    found = asked("baseline=lexicon", SLURM, *more)
    assert (found["mem_gb"], found["partition"], found["qos"]) == (90, "gpu", "low")
    assert "account" not in found


def test_a_baseline_that_says_nothing_of_its_needs_takes_others_all_the_same():
    found = asked("baseline=video_llava", "baseline.needs.mem_gb=90", SLURM)
    assert (found["mem_gb"], found["gpus_per_node"]) == (90, 1)


def test_what_a_run_needs_is_no_part_of_it():
    usual, more = job("baseline=random"), job("baseline=random", "baseline.needs.mem_gb=90")
    assert more.identity == usual.identity
    assert more.folder == usual.folder


@pytest.mark.parametrize(
    ("arguments", "ours"),
    [
        (["-m", "seed=0,1"], []),
        (["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], []),
        (["hydra.launcher.qos=low", "-m", SLURM], [SLURM, "hydra.launcher.qos=low"]),
        ([SLURM, "+hydra.launcher.qos=low"], [SLURM, "+hydra.launcher.qos=low"]),
    ],
)
def test_only_submitit_is_kept_from_hydra(arguments, ours):
    taken, rest = submit.taken_out(arguments)
    assert taken == ours
    assert sorted([*taken, *rest]) == sorted(arguments)


def test_jobs_run_by_submitit_and_the_finished_one_is_not_handed_over(command, on_data, tmp_path):
    assert command("sweep", "baseline=empty", *on_data).returncode == 0
    here = "hydra/launcher=submitit_local"
    done = command("sweep", "-m", "baseline=empty,random", here, *on_data)
    assert done.returncode == 0, done.stderr
    (line,) = [each for each in done.stderr.splitlines() if "submitted" in each]
    assert "random as local job" in line
    assert line.endswith("0 GPUs, 4 GB, 60 minutes")
    assert [row.split()[0] for row in done.stdout.splitlines()[2:4]] == ["empty", "random"]
    (folder,) = tmp_path.glob("outputs/ovmerd*/random")
    told = json.loads((folder / "run.json").read_bytes())
    assert told["sessions"][-1]["process"] != os.getpid()


def test_a_job_that_dies_is_reported_and_the_others_go_on(command, on_data, tmp_path):
    dies = "++baseline.generate_fails={c: die},{}"
    here = ("hydra/launcher=submitit_local", "batch_size=1")
    done = command("sweep", "-m", "baseline=scripted", dies, *here, *on_data)
    assert done.returncode == 1
    assert "scripted-generate_fails_c_die died on the cluster" in done.stderr
    assert "the same command resumes it" in done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
    assert rows["scripted-generate_fails"][3] == "6"
    assert not list(Path(tmp_path).glob("multirun.yaml"))


def test_without_slurm_it_is_one_sentence(command, on_data):
    done = command("sweep", "-m", "baseline=empty,random", SLURM, *on_data)
    assert done.returncode == 2
    assert "empty cannot be handed to slurm" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_baseline_of_ones_own_is_found_by_the_job(command, on_data, tmp_path):
    (tmp_path / "mine" / "baseline").mkdir(parents=True)
    (tmp_path / "mine" / "baseline" / "slow.yaml").write_text("name: slow\nadapter: scripted\n")
    here = ("--config-dir", "mine", "hydra/launcher=submitit_local")
    done = command("sweep", *here, "-m", "baseline=slow", *on_data)
    assert done.returncode == 0, done.stderr


def test_what_was_wrong_on_the_cluster_comes_home(command, on_data):
    here = ("hydra/launcher=submitit_local", "on_error=raise")
    fails = "+baseline.generate_fails.c=timeout"
    done = command("sweep", "-m", "baseline=scripted", fails, *here, *on_data)
    assert done.returncode == 1
    (line,) = [each for each in done.stderr.splitlines() if "scripted timeout" in each]
    assert re.search(r"c: c: scripted timeout \(log: .*_log\.err\)$", line)


def test_a_job_that_is_stopped_leaves_no_result(data, tmp_path):
    """With one, it would count as ended well, and Slurm's requeue would run on unwatched."""
    code = (
        "import os, signal, threading, time\n"
        "from tests.runners.jobs import job\n"
        "from ovmer.runners.sweeping.submit import ClusterTask\n"
        f"made = job('baseline=scripted', 'dataset=ovmerd', 'dataset.root={data}',"
        f" 'outputs={tmp_path}/out', 'baseline.generate_seconds=5')\n"
        "def stop():\n"
        "    while not (made.folder / 'run.json').exists(): time.sleep(0.01)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "threading.Thread(target=stop, daemon=True).start()\n"
        "print(ClusterTask(made)())\n"
    )
    done = processes.run([], tmp_path, program=partial(exec, code, {}))
    assert (done.returncode, done.stdout) == (130, "")
    assert "stopped; what was finished is kept" in done.stderr


def test_a_job_whose_extractor_is_a_language_model_asks_for_its_needs():
    runs = "baseline.runs=[a,b]"
    rules = asked("baseline=combined", runs, SLURM)
    assert (rules["gpus_per_node"], rules["mem_gb"]) == (0, 4)
    model = asked("baseline=combined", runs, "extractor=qwen25", SLURM)
    assert (model["gpus_per_node"], model["mem_gb"], model["timeout_min"]) == (1, 32, 60)
    served = ("extractor=qwen25", "engine@extractor.engine=server")
    assert asked("baseline=combined", runs, *served, SLURM)["gpus_per_node"] == 0
    large = asked("baseline=video_llava", "extractor=qwen25", SLURM)
    assert large["mem_gb"] == 64, "the larger of both"


def test_a_model_on_several_gpus_asks_for_them_and_for_memory_by_its_size():
    small = asked("baseline=qwen2_5_vl", SLURM)
    assert (small["gpus_per_node"], small["mem_gb"]) == (1, 64)
    large = asked("baseline=qwen3_omni", "engine=vllm", "engine.gpus=2", SLURM)
    assert (large["gpus_per_node"], large["mem_gb"]) == (2, 96)
    dry = asked("baseline=qwen3_omni", "dry_run=true", SLURM)
    assert (dry["gpus_per_node"], dry["mem_gb"]) == (1, 64)
    judge = ("extractor=qwen25", "extractor.engine.gpus=4")
    assert asked("baseline=qwen2_5_vl", *judge, SLURM)["gpus_per_node"] == 4


def test_eight_gpus_hold_four_models_that_take_two_each():
    cluster = {"CPU": 32.0, "GPU": 8.0}
    share = WorkerShare.of(cluster, RayOptions(), on_gpu=True, model_gpus=2)
    assert (share.workers, share.gpus, share.cpus) == (4, 2.0, 8)
    with pytest.raises(PrerequisiteError, match=r"engine\.gpus=2 .* a worker has 1; leave"):
        WorkerShare.of(cluster, RayOptions(gpus=1.0), on_gpu=True, model_gpus=2)
    with pytest.raises(PrerequisiteError, match="a worker has 0; leave"):
        WorkerShare.of({"CPU": 32.0}, RayOptions(), on_gpu=True, model_gpus=2)


class FakeJob:
    """A job that ends when it is told to."""

    def __init__(self, label: str, gpus: tuple[str, ...], job_id: str = "") -> None:
        self.label, self.gpus, self.job_id, self.ended = label, gpus, job_id, False

    def done(self) -> bool:
        return self.ended

    def cancel(self) -> None:
        self.ended = True


def test_local_jobs_have_a_gpu_each_and_wait_for_one(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-abc")
    monkeypatch.setattr(submit, "_POLL_SECONDS", 0.001)
    running: list[FakeJob] = []
    at_once = []

    def hand(made, wanted, cluster, gpus=None):
        running.append(FakeJob(made.label, gpus))
        return running[-1]

    def end(job, done, state):
        return 0

    monkeypatch.setattr(submit, "_submit", hand)
    monkeypatch.setattr(submit, "_status", end)
    names = ["video_llava", "random", "salmonn", "otter"]
    local = ["hydra/launcher=submitit_local"]
    endings = submit.submit([job(f"baseline={name}") for name in names], local)

    monkeypatch.setattr(submit.time, "sleep", lambda seconds: one_ends())

    def one_ends():
        left = [each for each in running if not each.ended]
        at_once.append({each.label: each.gpus for each in left})
        left[0].ended = True

    assert sorted(index for index, _ in endings) == [0, 1, 2, 3]
    assert at_once[0] == {"video_llava": ("2",), "random": (), "salmonn": ("GPU-abc",)}
    assert at_once[1] == {"random": (), "salmonn": ("GPU-abc",), "otter": ("2",)}


def joining():
    """Two jobs, and one that joins what they say."""
    parts = [job("baseline=random"), job("baseline=lexicon")]
    return [
        *parts,
        job("baseline=combined", f"baseline.runs=[{parts[0].folder},{parts[1].folder}]"),
    ]


def test_slurm_starts_a_job_that_joins_others_after_them(monkeypatch):
    handed = {}

    def hand(made, wanted, cluster):
        handed[made.label] = wanted
        return FakeJob(made.label, (), str(len(handed)))

    monkeypatch.setattr(submit, "_submit", hand)
    monkeypatch.setattr(submit, "_ended", lambda handed, jobs: iter(()))
    assert list(submit.submit(joining(), [SLURM])) == []
    assert "dependency" not in handed["random"]
    joined = handed["combined-random+lexicon"]
    assert joined["dependency"] == "afterok:1:2"
    assert joined["additional_parameters"] == {"kill-on-invalid-dep": "yes"}


def test_a_local_job_that_joins_others_waits_for_both(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    running: list[FakeJob] = []

    def hand(made, wanted, cluster, gpus=None):
        running.append(FakeJob(made.label, gpus))
        return running[-1]

    def one_ends(seconds):
        at_once.append([each.label for each in running if not each.ended])
        next(each for each in running if not each.ended).ended = True

    at_once: list[list[str]] = []
    monkeypatch.setattr(submit, "_submit", hand)
    monkeypatch.setattr(submit, "_status", lambda job, done, state: 0)
    monkeypatch.setattr(submit.time, "sleep", one_ends)
    ended = list(submit.submit(joining(), ["hydra/launcher=submitit_local"]))
    assert [index for index, _ in ended] == [0, 1, 2]
    assert at_once == [["random", "lexicon"], ["lexicon"], ["combined-random+lexicon"]]


def test_a_local_job_sees_the_gpus_that_it_was_given(monkeypatch):
    seen = {}

    def work(job):
        seen["gpus"] = os.environ["CUDA_VISIBLE_DEVICES"]
        raise PrerequisiteError("enough")

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr("ovmer.runners.sweeping.work.work", work)
    ending = submit.ClusterTask(job("baseline=random"), ("GPU-abc", "3"))()
    assert seen["gpus"] == "GPU-abc,3"
    assert "enough" in ending.sentences[0]
