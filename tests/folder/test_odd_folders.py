"""Run folders that something happened to: each is one sentence, or comes back."""

import errno
import fcntl
import json
import os
import shutil
import threading

import pytest

from ovmer.baselines.errors import PrerequisiteError, Status
from ovmer.runners import disk
from ovmer.runners.commands.extract import main as extract
from ovmer.runners.data import read_dataset
from ovmer.runners.folder.frames import read_runs
from ovmer.runners.folder.records import Prediction, RecordWriter, read_records
from ovmer.runners.folder.run_folder import RunFolder, find_folders
from ovmer.runners.sweeping.state import look
from ovmer.runners.sweeping.work import work
from tests.runners.conftest import data
from tests.runners.jobs import job

__all__ = ["data"]  # a fixture

NAMED = {"baseline": {"name": "x"}, "dataset": {"name": "y"}}


@pytest.fixture
def base(data, tmp_path):
    return ("dataset=ovmerd", f"dataset.root={data}", f"outputs={tmp_path / 'out'}")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the sample, to be copied."""
    made = job("baseline=lexicon", f"outputs={tmp_path_factory.mktemp('outputs')}")
    work(made)
    return made


ODD_RUN = [
    "[]",
    "3",
    '{"settings": {"base',
    "{}",
    '{"settings": []}',
    '{"settings": {"baseline": [], "dataset": {"name": "y"}}}',
    json.dumps({"settings": NAMED, "identity": []}),
    json.dumps({"settings": NAMED, "status": ["ok"]}),
    json.dumps({"settings": NAMED, "status": {"ok": "many"}}),
    json.dumps({"settings": NAMED, "sessions": {"overrides": []}}),
    json.dumps({"settings": NAMED, "clips": True}),
    json.dumps({"settings": NAMED, "schema": 99}),
    "[" * 100_000,
    '{"clips": ' + "9" * 5000 + "}",
]


@pytest.mark.parametrize("text", ODD_RUN)
def test_an_odd_run_json_is_one_sentence(text, tmp_path):
    (tmp_path / "run.json").write_text(text, "utf-8")
    with pytest.raises(PrerequisiteError, match=r"run\.json") as caught:
        RunFolder(tmp_path).info()
    assert "\n" not in str(caught.value)


ODD_SCORES = [
    "[]",
    '{"lexicon/wheel": []}',
    '{"lexicon/wheel": {"figures": []}}',
    '{"schema": 1, "scores": []}',
    '{"schema": 2}',
    '{"a/b": {"primary": "F", "figures": {"F": "high"}}}',
    '{"a/b": {"primary": "F", "figures": {}, "intervals": {"F": 3}}}',
    '{"a/b": {"primary": "F", "figures": {}, "extractor": "qwen"}}',
]


@pytest.mark.parametrize("text", ODD_SCORES)
def test_an_odd_scores_json_is_one_sentence(text, tmp_path):
    (tmp_path / "scores.json").write_text(text, "utf-8")
    with pytest.raises(PrerequisiteError, match=r"scores\.json") as caught:
        RunFolder(tmp_path).read_scores()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        '"text"',
        '{"name": ["a"], "status": "ok"}',
        '{"name": "a", "status": "splendid"}',
        '{"name": "a", "status": "ok", "notes": "cut"}',
        '{"name": "a", "status": "ok", "new_tokens": "many"}',
        '{"name": "a", "status": "ok", "fingerprint": []}',
        '{"name": "a", "status": "ok"}, {"name": "b", "status": "ok"}',
    ],
)
def test_an_odd_record_is_named_by_its_line(line, tmp_path):
    path = tmp_path / "predictions.jsonl"
    path.write_text('{"name": "z", "status": "ok"}\n' + line + "\n", "utf-8")
    with pytest.raises(PrerequisiteError, match=r"predictions\.jsonl, line 2 is no record"):
        list(read_records(path, Prediction))


@pytest.mark.parametrize("name", ["run.json", "scores.json", "predictions.jsonl", "labels.jsonl"])
def test_a_fifo_is_not_waited_for(name, tmp_path):
    os.mkfifo(tmp_path / name)
    folder = RunFolder(tmp_path)
    with pytest.raises(PrerequisiteError, match="is no regular file"):  # noqa: PT012
        folder.find_info()
        folder.read_scores()
        folder.read_predictions()
        folder.read_labels()
    if name.endswith("jsonl"):
        with pytest.raises(PrerequisiteError, match="is no regular file"):
            RecordWriter(tmp_path / name)


def test_older_folders_without_a_schema_are_read(finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "old")
    folder = RunFolder(tmp_path / "old")
    new = folder.read_scores()
    run = json.loads((folder.path / "run.json").read_text("utf-8"))
    assert run.pop("schema") == 1
    (folder.path / "run.json").write_text(json.dumps(run), "utf-8")
    scores = json.loads((folder.path / "scores.json").read_text("utf-8"))["scores"]
    for entry in scores.values():
        del entry["extraction"]
    (folder.path / "scores.json").write_text(json.dumps(scores), "utf-8")
    assert folder.read_scores() == new
    assert folder.info().identity == finished.identity


def test_a_lost_run_json_lets_no_other_settings_in(base):
    made = job("baseline=random", *base, "variant=a")
    work(made)
    (made.folder / "run.json").unlink()
    other = job("baseline=random", *base, "variant=a", "seed=0", "baseline.source=wheels")
    with pytest.raises(PrerequisiteError, match=r"lost its run\.json, and its predictions were"):
        work(type(other)(other.settings, (*base, "variant=a")))  # as if the yaml had been edited
    work(made)
    assert RunFolder(made.folder).info().identity == made.identity


def test_a_cut_run_json_is_a_sentence_and_can_be_removed(base):
    made = job("baseline=random", *base)
    work(made)
    whole = (made.folder / "run.json").read_text("utf-8")
    (made.folder / "run.json").write_text(whole[:100], "utf-8")
    with pytest.raises(PrerequisiteError, match=r"run\.json is no JSON .*; remove it"):
        work(made)
    (made.folder / "run.json").unlink()
    assert not work(made).to_describe


def test_predictions_of_which_nothing_is_known_are_refused(base):
    made = job("baseline=random", *base)
    made.folder.mkdir(parents=True)
    (made.folder / "predictions.jsonl").write_text('{"name": "a", "status": "ok"}\n', "utf-8")
    with pytest.raises(PrerequisiteError, match="do not say what made them"):
        work(made)


@pytest.mark.parametrize("name", ["predictions.csv", "results-random.npz", "random-openset.npz"])
def test_deleted_files_come_back(name, base):
    made = job("baseline=random", *base)
    work(made)
    (made.folder / name).unlink()
    assert not look(made, read_dataset(made.settings.dataset)).is_done
    work(made)
    assert (made.folder / name).stat().st_size > 0
    assert look(made, read_dataset(made.settings.dataset)).is_done


def fails(number):
    def call(*arguments):
        raise OSError(number, os.strerror(number))

    return call


@pytest.fixture(params=[errno.ENOSYS, errno.ENOLCK, errno.EINVAL, errno.EOPNOTSUPP])
def poor_file_system(request, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", fails(request.param))
    monkeypatch.setattr(os, "fsync", fails(request.param))


def test_without_flock_and_fsync_one_writer_at_a_time(poor_file_system, tmp_path):
    path = tmp_path / "r.jsonl"
    with RecordWriter(path) as writer:
        writer.append(Prediction("a", Status.OK, "happy"))
        with pytest.raises(PrerequisiteError, match=f"process {os.getpid()} on .* is writing"):
            RecordWriter(path)
    with RecordWriter(path) as writer:
        writer.append(Prediction("b", Status.OK, "sad"))
    assert [each.name for each in read_records(path, Prediction)] == ["a", "b"]
    assert [each.name for each in tmp_path.iterdir()] == ["r.jsonl"]


def test_the_lock_of_a_dead_process_is_replaced_and_of_another_machine_not(
    poor_file_system, tmp_path
):
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    lock = tmp_path / ".r.jsonl.lock"
    lock.write_text(f"{child} {os.uname().nodename}")
    with RecordWriter(tmp_path / "r.jsonl"):
        assert lock.read_text().startswith(f"{os.getpid()} ")
    lock.write_text(f"{child} another-machine")
    with pytest.raises(PrerequisiteError, match=r"on another-machine.*remove .*\.lock if it has"):
        RecordWriter(tmp_path / "r.jsonl")


def test_a_disk_that_fails_is_an_error_and_no_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "fsync", fails(errno.EIO))
    with pytest.raises(OSError, match=r"a\.json"):
        disk.replace_file(tmp_path / "a.json", b"{}")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_a_cache_may_be_made_by_two_at_a_time(tmp_path):
    path = tmp_path / "new" / "clip.mp4"

    def make() -> None:
        with disk.replacing(path, is_shared=True) as file:
            file.write(b"whole")

    with disk.replacing(path, is_shared=True) as file:
        file.write(b"who")
        other = threading.Thread(target=make)
        other.start()
        other.join()
        assert path.read_bytes() == b"whole"
        file.write(b"le")
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_writer_that_cannot_start_closes_its_file(monkeypatch, tmp_path):
    monkeypatch.setattr(fcntl, "flock", fails(errno.EIO))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Input/output"):
        RecordWriter(tmp_path / "r.jsonl")
    assert len(os.listdir("/proc/self/fd")) == before


def test_extract_imports_no_code_that_a_folder_names(finished, tmp_path, monkeypatch, capsys):
    shutil.copytree(finished.folder, tmp_path / "received")
    run = json.loads((tmp_path / "received" / "run.json").read_text("utf-8"))
    run["settings"]["baseline"]["adapter"] = "evil:Adapter"
    (tmp_path / "received" / "run.json").write_text(json.dumps(run), "utf-8")
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.argv", ["ovmer extract", str(tmp_path / "received")])
    with pytest.raises(SystemExit) as caught:
        extract()
    assert caught.value.code == 2
    assert "evil:Adapter, and no code that a file names is imported" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_folders_are_found_at_any_depth_and_through_links(finished, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "b" / "run").symlink_to(finished.folder)
    assert find_folders([tmp_path, tmp_path]) == [tmp_path / "a" / "b" / "run"]


def test_runs_as_data_frames(finished, tmp_path):
    predictions, labels, scores = read_runs(finished.folder.parent)
    assert len(predictions) == len(labels) == 10
    assert set(predictions["baseline"]) == {"lexicon"}
    assert set(predictions["status"]) <= {"ok", "empty"}
    assert isinstance(labels["labels"][0], list)
    row = scores[scores["figure"] == "M-avg"].iloc[0]
    assert 0 < row["low"] < row["value"] < row["high"] < 1
    assert (row["extraction"], row["metric"], row["n_clips"]) == ("lexicon", "wheel", 10)
    with pytest.raises(PrerequisiteError, match="no run folders there"):
        read_runs(tmp_path)
