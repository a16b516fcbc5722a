"""The command as a user runs it, in processes of their own."""

import csv
import gc
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from resource import RLIMIT_FSIZE, setrlimit

import pytest

from ovmer import sweep
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.sweeping.jobs import MODEL_MODULES
from tests import processes
from tests.faults.runs import Running, write_data
from tests.processes import Started
from tests.runners.conftest import write_tables
from tests.runners.jobs import job

PLUGIN = """
from ovmer.adapters import Adapter

class Mood(Adapter):
    modalities = frozenset({"subtitle"})

    def describe(self, video, audio, subtitle):
        return "She is happy." if "happy" in subtitle else "She is sad."
"""

BARE = """
from ovmer.adapters import Adapter
from ovmer.baselines.errors import PrerequisiteError

class Bare(Adapter):
    def load(self, machine):
        raise PrerequisiteError("there are no weights of Bare here; get them")

    def describe(self, video, audio, subtitle):
        return ""
"""


def folders(tmp_path):
    return {path.parent.name: path.parent for path in tmp_path.glob("outputs/*/*/run.json")}


def records(folder):
    text = (folder / "predictions.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_sweep_prints_one_table_and_the_second_time_nothing_else(command, on_data, tmp_path):
    arguments = ["sweep", "-m", "baseline=empty,random,ground_truth", *on_data]
    first = command(*arguments)
    assert first.returncode == 0, first.stderr
    rows = {line.split()[0]: line.split() for line in first.stdout.splitlines()}
    assert rows["empty"][3:] == ["6", "0", "6", "0", "0.00", "0.00", "0.00"]
    assert rows["ground_truth"][3:] == ["6", "6", "0", "0", "100.00", "100.00", "100.00"]
    assert first.stderr.count("to do") == 3
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("outputs/ovmerd*/*/*")}
    second = command(*arguments)
    assert second.returncode == 0
    assert second.stdout == first.stdout
    assert [line.split()[0] for line in second.stderr.splitlines()] == ["done"] * 3
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert not (tmp_path / "multirun.yaml").exists()


def test_a_job_that_is_killed_is_reported_and_the_others_go_on(command, on_data, tmp_path):
    arguments = ["sweep", "-m", "baseline=scripted", *on_data, "batch_size=1"]
    done = command(*arguments, "++baseline.generate_fails={c: die},{}")
    assert done.returncode == 1
    dead, alive = "scripted-generate_fails_c_die", "scripted-generate_fails"
    assert f"{dead} died of SIGKILL" in done.stderr
    assert f"not finished: {dead} on ovmerd" in done.stdout
    made = folders(tmp_path)
    assert [each["name"] for each in records(made[dead])] == ["a", "b"]
    assert [each["name"] for each in records(made[alive])] == list("abcdef")


def test_clips_that_fail_make_the_status_one_and_are_summed_up(command, on_data):
    fails = "+baseline.prepare_fails={b: unreadable, e: unreadable, f: refused}"
    done = command("sweep", "baseline=scripted", *on_data, fails)
    assert done.returncode == 1
    assert "3 ok, 2 unreadable, 1 refused" in done.stderr
    assert "  unreadable e: e: scripted unreadable" in done.stderr
    assert done.stdout.splitlines()[2].split()[3:7] == ["6", "3", "0", "3"]
    assert "generation=" not in done.stdout, "scripted answers are not decoded"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["baseline=lexicn"], 2, "there is no baseline=lexicn; did you mean lexicon"),
        (["-m", "baseline=random", "seed=a,1"], 2, "seed: Value 'a'"),
        (["baseline=random", "outputs=/proc/x"], 2, "/proc/x"),
    ],
)
def test_what_cannot_start_is_one_sentence(command, on_data, arguments, status, said):
    done = command("sweep", *arguments, *on_data)
    assert (done.returncode, done.stdout) == (status, "")
    *plan, sentence = done.stderr.splitlines()
    assert said in sentence
    assert all(line.startswith("  to do") for line in plan)


def test_a_sweep_from_python_that_cannot_start_leaves_the_collector_on(tmp_path):
    with pytest.raises(PrerequisiteError, match="there is no folder"):
        sweep(["baseline=random", "dataset=ovmerd", f"dataset.root={tmp_path / 'nowhere'}"])
    assert gc.isenabled()


def test_one_job_that_cannot_start_does_not_keep_the_others(command, on_data, tmp_path):
    (tmp_path / "mine" / "baseline").mkdir(parents=True)
    settings = "name: broken\nadapter: no.module:X\n"
    (tmp_path / "mine" / "baseline" / "broken.yaml").write_text(settings)
    done = command("sweep", "--config-dir", "mine", "-m", "baseline=broken,random", *on_data)
    assert done.returncode == 1
    assert "cannot start  broken on ovmerd: the adapter 'no.module:X'" in done.stderr
    assert list(folders(tmp_path)) == ["random"]


def test_a_baseline_without_weights_is_marked_in_the_table_and_the_rest_runs(
    command, on_data, tmp_path
):
    site = tmp_path / "site"
    site.mkdir()
    (site / "bare.py").write_text(BARE)
    (tmp_path / "mine" / "baseline").mkdir(parents=True)
    for name in ("otter", "mine"):
        settings = f"name: {name}\ntitle: {name}\nadapter: bare:Bare\n"
        (tmp_path / "mine" / "baseline" / f"bare_{name}.yaml").write_text(settings)
    baselines = ["--config-dir", "mine", "-m", "baseline=bare_otter,bare_mine,random"]
    done = command("sweep", *baselines, *on_data, path=site)
    assert done.returncode == 1
    assert "otter: there are no weights of Bare here; get them" in done.stderr
    assert "Traceback" not in done.stderr
    told = command("tables", "outputs", "layout=ovmer", "formats=csv", path=site)
    assert told.returncode == 0, told.stderr
    text = (tmp_path / "tables" / "ovmer.csv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines())
    shown = {row["baseline"]: row for row in rows if row["column"] == "M-avg"}
    for name in ("otter", "mine"):
        assert shown[name]["why"] == "there are no weights of Bare here; get them"
    assert shown["otter"]["published"]
    assert shown["random"]["ours"]


def test_a_plug_in_of_another_package_takes_part(command, on_data, tmp_path):
    """Installed as pip leaves it: a module, and a dist-info folder that names the entry point."""
    site = tmp_path / "site"
    info = site / "mood-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "mood.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mood\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ovmer.adapters]\nmood = mood:Mood\nlost = mood:Lost\n")
    (tmp_path / "mine" / "baseline").mkdir(parents=True)
    (tmp_path / "mine" / "baseline" / "mood.yaml").write_text("title: The mood of a subtitle\n")
    baselines = ["--config-dir", "mine", "-m", "baseline=mood,lost,random"]
    done = command("sweep", *baselines, *on_data, path=site)
    assert done.returncode == 1
    assert "Warning" not in done.stderr
    assert (
        "cannot start  lost on ovmerd: the adapter 'lost' (mood:Lost) cannot be imported"
        in done.stderr
    )
    made = folders(tmp_path)
    assert sorted(made) == ["mood", "random"]
    assert {each["description"] for each in records(made["mood"])} == {
        "She is happy.",
        "She is sad.",
    }
    listed = command("list", path=site)
    assert "plug-in mood:Mood" in listed.stdout
    helped = command("sweep", "--help", path=site)
    assert "mood" in helped.stdout


def test_killed_ten_times_it_ends_as_if_undisturbed(command, tmp_path):
    names = [f"clip{number:03}" for number in range(240)]
    root = write_tables(tmp_path / "data", names)
    slow = "baseline.generate_seconds=0.002"
    settings = ["dataset=ovmerd", f"dataset.root={root}", "dataset.check_files=false"]
    arguments = ["sweep", "baseline=scripted", slow, "batch_size=4", *settings]
    assert command(*arguments, "outputs=whole").returncode == 0
    cut = tmp_path / "cut"
    ends = [*range(5, 240, 25)]
    for count in ends:
        run = Started([*arguments, "outputs=cut"], tmp_path)
        deadline = time.monotonic() + 60
        while _lines(cut) < count and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        run.kill()
        run.communicate()
    assert run.returncode == -signal.SIGKILL, "the last one was killed at work, too"
    with next(cut.glob("*/*/predictions.jsonl")).open("ab") as file:
        file.write(b'{"name":"clip239","status":"ok","descr')
    assert command(*arguments, "outputs=cut").returncode == 0
    (one,) = tmp_path.glob("whole/*/*")
    (other,) = cut.glob("*/*")
    assert _words(other) == _words(one)
    assert [each["name"] for each in records(other)] == names
    assert (other / "predictions.csv").read_bytes() == (one / "predictions.csv").read_bytes()
    assert json.loads((other / "scores.json").read_bytes()) == json.loads(
        (one / "scores.json").read_bytes()
    )


def _lines(folder):
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*/*/predictions.jsonl"))


def _words(folder):
    return [(each["name"], each["status"], each["description"]) for each in records(folder)]


@pytest.mark.parametrize("mode", [[], ["-m"]])
def test_stopped_by_a_signal_it_can_be_resumed(command, on_data, tmp_path, mode):
    slow = ["baseline=scripted", "baseline.generate_seconds=0.5", "batch_size=1", *on_data]
    sweep = ["seed=0,1"] if mode else []
    run = Started(["sweep", *mode, *slow, *sweep], tmp_path)
    run.wait_for(lambda: _lines(tmp_path / "outputs"))
    time.sleep(0.1)  # the next clip takes half a second
    run.send_signal(signal.SIGTERM)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "the same command goes on" in err
    (folder,) = folders(tmp_path).values()
    done = len(records(folder))
    told = json.loads((folder / "run.json").read_bytes())
    assert told["sessions"][-1]["described"] == done < 6
    with RunFolder(folder):  # the lock is free
        pass


def test_a_job_ends_with_its_sweep(on_data, tmp_path):
    slow = ["baseline=scripted", "baseline.generate_seconds=0.5", "batch_size=1", *on_data]
    run = Started(["sweep", "-m", "seed=0,1", *slow], tmp_path)
    run.wait_for(lambda: _lines(tmp_path / "outputs"))
    run.kill()
    run.communicate()
    (folder,) = folders(tmp_path).values()
    time.sleep(1.0)
    with RunFolder(folder):
        assert len(records(folder)) < 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_same_signal_again_ends_a_hanging_run_at_once(on_data, tmp_path, number):
    hangs = ["baseline=scripted", "baseline.prepare_seconds=100", *on_data]
    run = Started(["sweep", *hangs], tmp_path)
    run.wait_for(lambda: folders(tmp_path))
    time.sleep(1.0)  # a clip is being prepared
    run.send_signal(number)
    time.sleep(1.2)
    assert run.poll() is None, "it waits for the clip that is being prepared"
    run.send_signal(number)
    _, said = run.communicate(timeout=10)
    assert run.returncode == 130
    assert said.splitlines()[-1] == "stopped at once; the same command goes on from the last record"
    assert "Traceback" not in said


def test_a_signal_to_all_processes_of_a_sweep_is_one_word(on_data, tmp_path):
    """As `timeout` and schedulers send it: the job hears it twice, the second time of its sweep."""
    slow = ["baseline=scripted", "baseline.generate_seconds=0.5", "batch_size=1", *on_data]
    run = Started(["sweep", "-m", "seed=0,1", *slow], tmp_path, before=os.setsid)
    run.wait_for(lambda: _lines(tmp_path / "outputs"))
    os.killpg(run.pid, signal.SIGTERM)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Traceback" not in err
    assert "warning" not in err.lower()
    assert err.splitlines()[-1] == "stopped; what was finished is kept, the same command goes on"


def test_what_jobs_share_asks_for_no_gpu_when_it_is_imported():
    """A process that has done so cannot be forked: its children get no CUDA."""
    code = (
        "import importlib, torch\n"
        "def asked(*_): raise SystemExit('a GPU was asked for')\n"
        "for name in ('is_available', 'device_count', 'current_device', '_lazy_init'):\n"
        "    assert hasattr(torch.cuda, name); setattr(torch.cuda, name, asked)\n"
        f"for name in {MODEL_MODULES}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("sweep", ["ground_truth", "ovmerd", "on_error: record", "ovmer describe"]),
        ("list", ["ground_truth", "subtitle"]),
        ("describe", ["baseline=", "video="]),
    ],
)
def test_help_imports_no_torch(module, words):
    code = (
        "import atexit, sys; from ovmer.runners.commands import main\n"
        "atexit.register(lambda: print(*{n.split('.')[0] for n in sys.modules}, file=sys.stderr))\n"
        "main()"
    )
    arguments = [module] if module == "list" else [module, "--help"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in words)
    heavy = {"torch", "transformers", "pandas", "decord", "librosa", "vllm"}
    assert heavy.isdisjoint(done.stderr.splitlines()[-1].split())


def test_a_folder_called_conf_in_the_current_folder_is_not_ours(command, on_data, tmp_path):
    (tmp_path / "conf" / "baseline").mkdir(parents=True)
    (tmp_path / "conf" / "config.yaml").write_text("nothing: of ours\n")
    assert command("sweep", "baseline=random", *on_data).returncode == 0


def test_a_full_disk_is_one_sentence_and_nothing_is_lost(command, tmp_path):
    """A limit on the size of files stands in for a disk that is full."""
    names = [f"clip{number:03}" for number in range(240)]
    root = write_tables(tmp_path / "data", names)
    data = ["dataset=ovmerd", f"dataset.root={root}", "dataset.check_files=false"]
    arguments = ["sweep", "baseline=scripted", *data]
    full = processes.run(
        arguments, tmp_path, before=partial(setrlimit, RLIMIT_FSIZE, (16_384, 16_384))
    )
    assert full.returncode == 2
    assert full.stderr.splitlines()[-1].endswith("File too large; fix this and run again")
    assert "Traceback" not in full.stderr
    (folder,) = folders(tmp_path).values()
    before = (folder / "predictions.jsonl").read_bytes()
    assert before
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert [each["name"] for each in records(folder)] == names
    whole = before[: before.rfind(b"\n") + 1]
    assert (folder / "predictions.jsonl").read_bytes().startswith(whole)


def test_a_run_that_joins_others_of_its_sweep_waits_for_them(tmp_path):
    data = write_data(tmp_path)[1:]
    sources = [job(f"baseline={name}", *data).folder for name in ("random", "lexicon")]
    joins = f"combined.runs=[{sources[0]},{sources[1]}]"
    arguments = ["-m", "baseline=combined,random,lexicon", joins, *data]
    ended = Running(tmp_path, arguments).end(120)
    assert ended.status == 0, ended.said
    joined, first, second = (records(folder) for _, folder in sorted(folders(tmp_path).items()))
    assert [each["description"] for each in joined] == [
        f"{one['description']}；{other['description']}"
        for other, one in zip(first, second, strict=True)
    ]
    assert "done" in Running(tmp_path, arguments).end(120).said
