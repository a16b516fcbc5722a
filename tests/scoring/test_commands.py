"""The commands as a user starts them; where only words matter, in this process, to be quick."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from ovmer.runners.scoring import make_metric, metric_settings
from tests import processes
from tests.data.layouts import names_of, settings_of, write_dataset
from tests.scoring.conftest import ROOT


def run(module: str, *arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    return processes.run([module, *arguments], ROOT, environment={"XDG_CACHE_HOME": str(cache)})


class Inside:
    """Runs a command in this process; `run` starts a new one."""

    def __init__(
        self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str], cache: Path
    ) -> None:
        self._patch, self._capture = patch, capture
        patch.setenv("XDG_CACHE_HOME", str(cache))
        patch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers

    def __call__(self, module: str, *arguments: str) -> tuple[int, str, str]:
        """Exit status, stdout, stderr."""
        self._patch.setattr(sys, "argv", [module, *arguments])
        with pytest.raises(SystemExit) as caught:
            import_module(f"ovmer.runners.commands.{module}").main()
        captured = self._capture.readouterr()
        return int(caught.value.code or 0), captured.out, captured.err


@pytest.fixture
def inside(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Inside:
    return Inside(monkeypatch, capsys, tmp_path)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Truth and three sets of predictions of twelve invented clips."""
    words = ["happy", "sad", "scared", "angry", "joyful", "mad"]
    tables = {
        "truth": [f"['{words[i % 6]}', '{words[(i + 1) % 6]}']" for i in range(12)],
        "good": [f"[{words[i % 6]}]" for i in range(12)],
        "poor": [f"[{words[(i + 3) % 6]}]" for i in range(12)],
        "odd": [f"[{words[i % 6]}，{words[(i + 2) % 6]}]" for i in range(12)],
    }
    for name, cells in tables.items():
        with (tmp_path / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["name", "openset"])
            writer.writerows([f"clip{i}", cell] for i, cell in enumerate(cells))
    return tmp_path


def test_score_prints_figures_intervals_and_what_to_know(files: Path) -> None:
    done = run(
        "score",
        f"predictions={files}/odd.csv",
        f"truth={files}/truth.csv",
        f"breakdown={files}/tables",
        f"output={files}/scores.json",
        cache=files,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "wheel: 12 clips, 12 of them count"
    assert lines[2].split() == ["figure", "%", "95", "%", "interval", "precision", "recall", "n"]
    assert lines[4].startswith("M-avg* ")
    assert "* not comparable with papers" in lines
    assert "- vocabulary shipped; no overlap counts as 0 (MER2026's code)" in lines
    assert any("lost 24 labels in the predictions" in line for line in lines)
    saved = json.loads((files / "scores.json").read_text(encoding="utf-8"))
    assert saved["figures"]["M1/recall"] == 0
    assert saved["conditions"]["vocabulary"] == "shipped"
    assert len(saved["unknown_labels"]) == 6
    tables = {path.stem for path in (files / "tables").iterdir()}
    assert tables == {"figures", "per_clip", "per_cluster", "labels", "outside_vocabulary"}


def test_breakdown_adds_up_to_the_figures(files: Path) -> None:
    done = run(
        "score",
        f"predictions={files}/good.csv",
        f"truth={files}/truth.csv",
        f"breakdown={files}",
        "bootstrap=0",
        cache=files,
    )
    assert done.returncode == 0, done.stderr

    def table(name: str) -> list[dict[str, str]]:
        with (files / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    figures = {row["figure"]: row for row in table("figures")}
    clips = table("per_clip")
    recall = sum(float(row["M1/recall"]) for row in clips) / len(clips)
    assert float(figures["M1"]["recall"]) == pytest.approx(recall) == 0.5
    assert float(figures["M1"]["precision"]) == 1.0
    clusters = [row for row in table("per_cluster") if row["mapping"] == "M3-W1-L1"]
    assert [row["group"] for row in clusters] == ["happy", "mad", "sad", "scared"]
    happy = clusters[0]  # true where happy or joyful is, which is in 8 of 12 clips
    assert (happy["truth"], happy["predictions"], happy["both"]) == ("8", "4", "4")
    assert float(happy["F"]) == pytest.approx(2 / 3)
    assert table("labels")[0]["truth"] == "happy; sad"


def test_compare(files: Path) -> None:
    done = run(
        "compare",
        f"runs=[{files}/good.csv,{files}/poor.csv,{files}/good.csv]",
        f"truth={files}/truth.csv",
        "figure=M1",
        "bootstrap=200",
        f"output={files}/differences.csv",
        cache=files,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "good.csv - poor.csv" in done.stdout
    with (files / "differences.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["difference"]) == pytest.approx(2 / 3)
    assert row["differing_clips"] == "12"
    assert float(row["p"]) == 2 / 2**12, "12 clips of 12 one way: the exact sign test"


def write_run(
    folder: Path,
    baseline: str,
    dataset: Mapping[str, Any],
    said: Mapping[str, str | None],
    label: str,
) -> None:
    """A finished run: its answer to each clip, None where it crashed, and one label of all."""
    folder.mkdir()
    settings = {"baseline": {"name": baseline}, "dataset": dataset}
    (folder / "run.json").write_text(json.dumps({"settings": settings}), "utf-8")
    records = [
        {"name": name, "status": "crashed" if text is None else "ok", "description": text or ""}
        for name, text in said.items()
    ]
    answered = [name for name, text in said.items() if text is not None]
    labels = [{"name": name, "labels": [label], "raw": "", "key": name} for name in answered]
    for file, lines in (("predictions.jsonl", records), ("labels.jsonl", labels)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / file).write_text(text, "utf-8")


def test_compare_says_where_words_of_one_baseline_part(tmp_path: Path) -> None:
    said = {"talker": "is glad.", "talker-vllm": "is sad.", "talker-again": "is glad."}
    for name, last in said.items():
        words = {"a": "The same.", "b": f"{'The person ' * 5}{last}", "c": None}
        write_run(tmp_path / name, "talker", {"name": "sample"}, words, "glad")
    (tmp_path / "truth.csv").write_text("name,openset\na,glad\nb,sad\n", "utf-8")
    runs = ",".join(str(tmp_path / each) for each in ("talker", "talker-vllm", "talker-again"))
    done = run("compare", f"runs=[{runs}]", f"truth={tmp_path}/truth.csv", cache=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    settings = done.stdout.splitlines()
    before = ("The person " * 5 + "is ")[-30:]
    assert (
        "- talker and talker-vllm: other words of 1 of 2 clips; in b they part at "
        f"'...{before}glad.' and '...{before}sad.'"
    ) in settings
    assert "- talker and talker-again: the same words of all 2 clips" in settings


def test_run_folders_are_scored_by_the_truth_and_the_metric_of_their_data_set(
    tmp_path: Path, inside: Inside
) -> None:
    root = write_dataset(tmp_path / "data", "mer2023")
    runs = {"glad": ("mer2023", "happy"), "silly": ("mer2023", "silly"), "open": ("ovmerd", "sad")}
    for name, (dataset, label) in runs.items():
        settings = settings_of(dataset) | {"root": str(root)}
        words = dict.fromkeys(names_of("mer2023", 6), "Well.")
        write_run(tmp_path / name, name, settings, words, label)
    status, out, err = inside("compare", f"runs=[{tmp_path}/glad,{tmp_path}/silly]")
    assert (status, err) == (0, "")
    assert out.split()[:2] == ["run", "hit-rate*"]
    assert "glad - silly" in out, "one of six clips is happy, none silly"
    status, out, err = inside("score", f"predictions={tmp_path}/silly")
    assert (status, err) == (0, "")
    assert out.startswith("hit_rate: 6 clips")
    status, _, err = inside("compare", f"runs=[{tmp_path}/glad,{tmp_path}/open]")
    assert status == 2
    assert "the runs are of several data sets (mer2023, ovmerd); give truth= or dataset=" in err


def test_files_have_the_clusters_of_the_data_set_that_is_named(
    tmp_path: Path, inside: Inside
) -> None:
    root = write_dataset(tmp_path, "meld")
    lines = [f"{name},[happy]" for name in names_of("meld", 6)]
    (tmp_path / "replies.csv").write_text("\n".join(["name,openset", *lines]), "utf-8")
    settings = (f"predictions={tmp_path}/replies.csv", "dataset=meld", f"dataset.root={root}")
    for more, has_clusters in (((), True), (("cluster=none",), False)):
        status, out, err = inside("score", *settings, *more)
        assert (status, err) == (0, "")
        assert ("dialogue" in out) == has_clusters


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        ("score", ["predictions=a"], "truth is not set; give a file, or dataset="),
        ("score", ["truth=b"], "predictions has no value; give predictions=..."),
        ("score", ["predictions=a", "truth=b", "mising=zero"], "there is no key mising; did you"),
        ("score", ["predictions=a", "truth=b", "metric=weel"], "there is no metric=weel; did you"),
        ("score", ["predictions=a", "truth=b", "metric.editon=x"], "no key metric.editon; did you"),
        ("score", ["predictions=a", "truth=b", "bootstrap=many"], "bootstrap: Value 'many'"),
        (
            "score",
            ["predictions=a", "truth=b", "bootstrap=-1"],
            "bootstrap is -1; give at least 200",
        ),
        ("score", ["predictions=a", "truth=b", "confidence=95"], "confidence is 95.0; give one"),
        ("score", ["predictions=a", "truth=b", "missing=no"], "choose one of error, skip, zero"),
        ("score", ["predictions=a", "truth=b"], "there is no file or folder b"),
        ("score", ["predictions=a", "truth=b", "metric=grouping"], "metric.replies is missing"),
        ("compare", ["runs=[a]", "truth=b"], "a comparison needs two runs"),
        ("agreement", ["task=dfew", "runs=[a,b]"], "truth is not set; give a file, or dataset="),
        ("group", ["predictions=a", "replies=b"], "truth is not set; give a file, or dataset="),
        ("weights", ["all", "json=yes"], "json is 'yes'; choose one of false, true"),
        ("compare", ["runs=a", "truth=b"], "runs: "),
    ],
)
def test_mistakes_are_one_sentence(
    module: str, arguments: list[str], words: str, inside: Inside
) -> None:
    status, out, err = inside(module, *arguments)
    assert (status, out) == (2, "")
    assert words in err
    assert len(err.splitlines()) == 1


def test_a_reader_that_has_seen_enough_is_no_error_with_a_trace(files: Path) -> None:
    settings = [f"predictions={files}/good.csv", f"truth={files}/truth.csv", "bootstrap=0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ovmer", "score", *settings],
        cwd=ROOT,
        env=os.environ | {"XDG_CACHE_HOME": str(files)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()  # as `| head` does
    _, err = process.communicate(timeout=60)
    assert (process.returncode, len(err.splitlines())) == (1, 1), err


@pytest.mark.parametrize("module", ["score", "compare", "fetch"])
def test_help(module: str, inside: Inside) -> None:
    status, out, err = inside(module, "--help")
    assert (status, err) == (0, "")
    wanted = ["url="] if module == "fetch" else ["truth: null", "metric: grouping, hit_rate"]
    assert all(words in out for words in wanted)


METRICS = {
    "wheel": "M-avg",
    "unibench_ov": "level1",
    "mer2025_track2": "level-mean",
    "mer2026_track2": "level1",
    "grouping": "avg",
}


@pytest.mark.parametrize("metric", METRICS)
def test_mer2024_example_from_the_command_line(
    metric: str, mer2024_ov: Path, official: str, tmp_path: Path, inside: Inside
) -> None:
    settings = f"metric.wheel_root={official}"
    if metric == "grouping":
        settings = f"metric.replies={mer2024_ov}/openset-synonym.zip"
    status, out, err = inside(
        "score",
        f"predictions={mer2024_ov}/predict-openset.csv",
        f"truth={mer2024_ov}/check-openset.csv",
        f"metric={metric}",
        settings,
        f"output={tmp_path}/scores.json",
    )
    assert (status, err) == (0, "")
    assert out.startswith(f"{metric}: 332 clips")
    assert out.splitlines()[4].startswith(METRICS[metric])
    saved = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert saved["primary"] == METRICS[metric]
    if metric == "grouping":
        assert saved["figures"]["avg"] == 0.5397841365461847


def test_every_shipped_metric_binds_to_its_class() -> None:
    for path in sorted((ROOT / "conf" / "metric").glob("*.yaml")):
        settings = metric_settings(path.stem)
        assert settings["name"] == path.stem
        if "wheel_root" in settings:
            settings["wheel_root"] = "shipped"
        if path.stem == "grouping":
            settings["replies"] = {"a": "[]"}
        assert make_metric(settings).primary == settings["primary"]
