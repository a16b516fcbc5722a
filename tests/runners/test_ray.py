"""One run on several workers, on a Ray cluster of two invented cores."""

import contextlib
import json
import os
import signal
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import ray

from ovmer.adapters.scripted import Scripted
from ovmer.baselines.device import limit_memory
from ovmer.baselines.errors import ClipError, PrerequisiteError
from ovmer.runners.data import read_dataset
from ovmer.runners.describing.launchers import make_launcher
from ovmer.runners.describing.pipeline_settings import PipelineSettings
from ovmer.runners.describing.ray_actor import RayWorker
from ovmer.runners.folder.records import Prediction
from ovmer.runners.sweeping.state import look
from ovmer.runners.sweeping.work import work
from tests.runners.conftest import write_tables
from tests.runners.jobs import job

CLIPS = [f"clip{number:02}" for number in range(40)]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    ray.init(
        "local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=80 * 2**20,
        log_to_driver=False,
    )
    yield
    ray.shutdown()


@pytest.fixture
def base(tmp_path):
    root = write_tables(tmp_path / "data", CLIPS)
    (root / "video").mkdir()
    for name in CLIPS:
        (root / "video" / f"{name}.mp4").write_bytes(name.encode())
    data = ("dataset=ovmerd", f"dataset.root={root}", "dataset.audio=[]")
    return (*data, f"outputs={tmp_path / 'out'}", "batch_size=2", "launcher=ray")


def lines(made):
    text = (made.folder / "predictions.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def words(made):
    return {each["name"]: (each["status"], each["description"]) for each in lines(made)}


def test_two_workers_say_what_one_process_says(base):
    shared = job("baseline=random", *base)
    state = work(shared)
    alone = job("baseline=random", *base, "launcher=local", "variant=alone")
    assert work(alone).scores.figures == state.scores.figures
    assert words(shared) == words(alone)
    assert sorted(each["name"] for each in lines(shared)) == CLIPS, "each once"
    assert shared.identity == alone.identity, "how many workers is no part of a run"
    speed = json.loads((shared.folder / "run.json").read_bytes())["sessions"][-1]["speed"]
    assert speed["clips"] == len(CLIPS)
    assert speed["peak_memory_mb"] > 20


def failures(state):
    return {each.name: each.status for each in state.predictions.values() if each.failed}


def test_a_clip_that_fails_is_recorded_and_the_next_run_asks_for_it_alone(base):
    fails = ("+baseline.prepare_fails.clip03=unreadable", "+baseline.generate_fails.clip07=bug")
    made = job("baseline=scripted", *base, *fails)
    state = work(made)
    assert failures(state) == {
        "clip03": "unreadable",
        "clip07": "crashed",
    }
    work(made)
    assert [each["name"] for each in lines(made)[len(CLIPS) :]] == ["clip07"]


def test_what_a_killed_worker_held_is_done_by_others(base):
    made = job("baseline=scripted", *base, "baseline.generate_seconds=0.05")
    path = made.folder / "predictions.jsonl"

    def kill() -> None:
        while not path.exists() or path.read_bytes().count(b"\n") < 8:
            time.sleep(0.01)
        os.kill(worker(), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    state = work(made)
    killer.join()
    assert sorted(each["name"] for each in lines(made)) == CLIPS, "complete, and nothing twice"
    assert not state.failed


def worker() -> int:
    """The process of one of the actors."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # others end meanwhile
            if "".join(process.cmdline()[:1]).startswith(f"ray::{RayWorker.__name__}"):
                return process.pid
    raise AssertionError("there is no worker")


def test_a_clip_that_kills_its_worker_is_identified_and_recorded(base, capsys):
    made = job("baseline=scripted", *base, "+baseline.generate_fails.clip11=die")
    state = work(made)
    assert failures(state) == {"clip11": "crashed"}
    assert sorted(each["name"] for each in lines(made)) == CLIPS
    assert "a Ray worker died" in capsys.readouterr().err


def test_an_error_of_loading_that_is_not_ours_is_one_sentence(base):
    class Broken(Scripted):
        def load(self, machine):
            raise KeyError("model.layers.0")

    settings = replace(
        PipelineSettings.of(made := job("baseline=scripted", *base), made.adapter), adapter=Broken()
    )
    launcher = make_launcher(made.settings.launcher, settings)
    requests = look(made, read_dataset(made.settings.dataset)).to_describe
    sentence = r"every Ray worker died before its model was loaded \(KeyError: 'model.layers.0'\)"
    with pytest.raises(PrerequisiteError, match=sentence):
        list(launcher.describe(requests))


def test_workers_that_share_a_gpu_are_given_their_part_of_its_memory(base):
    class Tells(Scripted):
        def load(self, machine):
            from ovmer.baselines.device import memory_share

            self.default = f"share {memory_share()}"

    settings = replace(
        PipelineSettings.of(made := job("baseline=scripted", *base), made.adapter), adapter=Tells()
    )
    worker = RayWorker(settings.with_cores(1), gpu_share=0.5)
    requests = look(made, read_dataset(made.settings.dataset)).to_describe
    worker.add(requests[:1], {}, last=True)
    try:
        said = next(each for each in worker.answers() if isinstance(each, Prediction))
        assert said.description == "share 0.5"
    finally:
        limit_memory(1.0)


def test_a_dry_run_of_a_server_is_sent_to_the_workers(base):
    served = ("baseline=served", "baseline.model=any", "engine=server", "dry_run=true")
    state = work(job(*served, *base, "dataset.limit=4", "launcher.workers=2"))
    assert len(state.predictions) == 4
    assert {each.status for each in state.predictions.values()} != {"crashed"}


def test_on_error_raise_ends_the_run_at_once(base):
    fails = "+baseline.generate_fails.clip05=timeout"
    with pytest.raises(ClipError, match="clip05: clip05: scripted timeout"):
        work(job("baseline=scripted", *base, fails, "on_error=raise"))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("launcher.workers=3", "the Ray cluster has 2 CPUs, 0 GPUs and .* 3 workers with 1 CPUs"),
        ("launcher.gpus=1", "too little for 1 workers with 2 CPUs, 1 GPUs each; lower"),
        ("launcher.memory_gb=1e6", "1e.06 GB each; lower"),
    ],
)
def test_a_cluster_that_cannot_give_what_is_asked_is_one_sentence(base, setting, said):
    with pytest.raises(PrerequisiteError, match=said):
        work(job("baseline=scripted", *base, setting))


def test_a_cluster_that_others_use_is_not_waited_for_without_end(base):
    @ray.remote(num_cpus=2)
    class Other:
        def here(self):
            return True

    other = Other.remote()
    assert ray.get(other.here.remote())
    try:
        with pytest.raises(PrerequisiteError, match="no Ray worker started within 2 s"):
            work(job("baseline=scripted", *base, "launcher.timeout=2"))
    finally:
        ray.kill(other)


def refused_for_its_token() -> ConnectionError:
    error = ConnectionError("Failed to connect")
    error.__cause__ = RuntimeError("AuthenticationError: Authentication token is missing")
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (refused_for_its_token(), "the Ray cluster at auto asks for a token; set RAY_AUTH_MODE="),
        (ConnectionError("refused"), r"no Ray cluster was joined at .*\(refused\); start one with"),
        (Exception("The node\ntimed out"), r"Ray did not start \(The node timed out\); is the"),
    ],
)
def test_a_cluster_that_is_not_there_is_one_sentence(base, monkeypatch, error, said):
    def fail(*arguments, **settings):
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(PrerequisiteError, match=said):
        work(job("baseline=scripted", *base, "launcher.address=auto"))


def test_what_is_wrong_with_the_run_is_said_once(base):
    with pytest.raises(PrerequisiteError, match=r"there is no key launcher\.worker"):
        work(job("baseline=scripted", *base, "+launcher.worker=1"))


@pytest.mark.parametrize(
    ("clips", "cpus", "threads", "batch"),
    [(33, 1, 0, 64), (31, 2, 0, 8), (18, 1, 40, 64), (1, 2, 3, 1), (40, 1, 8, 3), (29, 2, 40, 2)],
)
def test_no_remainder_is_waited_for(base, clips, cpus, threads, batch):
    """A worker keeps clips until it is given more or told that these are the last."""
    how = (f"limit={clips}", f"workers={threads}", f"batch_size={batch}")
    shared = job("baseline=lexicon", *base, *how, f"launcher.cpus={cpus}")
    work(shared)
    alone = job("baseline=lexicon", *base, *how, "launcher=local", "variant=alone")
    work(alone)
    assert words(shared) == words(alone)
    assert len(lines(shared)) == clips


def test_an_address_where_nothing_answers_is_one_sentence_at_once(base, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(PrerequisiteError, match=r"no Ray cluster was joined at .*refused"):
        work(job("baseline=scripted", *base, f"launcher.address='127.0.0.1:{port}'"))


def test_a_worker_without_the_data_set_records_nothing(base, monkeypatch):
    """A driver that sees files which its workers do not, as on a machine without the data set."""
    made = job("baseline=scripted", *base)
    seen = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path.suffix == ".mp4" or seen(path))
    videos = list(Path(made.settings.dataset["root"]).glob("video/*.mp4"))
    state = look(made, read_dataset(made.settings.dataset))
    for video in videos:
        video.unlink()
    settings = PipelineSettings.of(made, made.adapter)
    launcher = make_launcher(made.settings.launcher, settings)
    with pytest.raises(
        PrerequisiteError, match=r"does not see .*\.mp4, which is here; mount .*left"
    ):
        list(launcher.describe(state.to_describe))
