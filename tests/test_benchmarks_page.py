"""The commands of docs/benchmarks.md run as printed, with a scripted model and judge."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import ovmer
from tests.data import benchmark_layouts as layouts
from tests.extraction.fake_server import MODEL, serving
from tests.scoring.test_commands import Inside

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
TEXT = PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
COMMANDS = re.findall(r"^ovmer (\w+) (.+)$", TEXT, flags=re.M)
REPLIES = {"1": "happy", "2": "Sad.", "3": "I see fear, not happiness"}


def table(path: Path, column: str, cells: dict[str, str]) -> None:
    rows = "".join(f'{name},"{cell}"\n' for name, cell in cells.items())
    path.write_text(f"name,{column}\n{rows}", encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands run: the data sets and files that they name."""
    for dataset in ("dfew", "emobench_m_smile", "mme_emotion_er_lab"):
        name, write = layouts.LAYOUTS[dataset]
        write(tmp_path / name)
    shutil.copy(layouts.VIDEOS[0], tmp_path / "anna.mp4")
    (tmp_path / "table.csv").write_text("video,labels\nanna.mp4,happy\n", encoding="utf-8")
    table(tmp_path / "truth.csv", "label", {"1": "happy", "2": "sad", "3": "fear"})
    every = {str(i): "happy" for i in range(1, 16)}
    table(tmp_path / "replies.csv", "reply", every | REPLIES)
    for name in ("a", "b"):
        table(tmp_path / f"{name}.csv", "reply", REPLIES)
    (tmp_path / "clues.json").write_text(json.dumps([{"video_id": "00012", "audio_clue": "calm"}]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(_: int, request: dict[str, object]) -> str:
    if "extract several key steps" in str(request):
        return "<step>Step 1: She smiles. Step 2: She is happy.</step>"
    if "rate the performance" in str(request):
        return "<score>Step 1: 0/1, Step 2: 1/1</score>"
    return "Logical Judgment Dimension: 4\nMultimodal Content Association Dimension: 2"


@pytest.fixture(scope="module")
def judge() -> Iterator[str]:
    """The address of a server that answers as a judge does."""
    with serving(answer) as server:
        yield server.url


@pytest.mark.parametrize("words", [words for name, words in COMMANDS if name == "sweep"])
def test_sweeps(words: str, folder: Path, judge: str) -> None:
    asked = [re.sub("^baseline=.*", "baseline=scripted", word) for word in shlex.split(words)]
    asked = [word.replace("/data", str(folder)) for word in asked if word not in ("-m",)]
    asked += ["baseline.default=happy", *([] if "data_root=" in words else [f"data_root={folder}"])]
    if is_judged := "extractor=judge" in asked:
        at = ("engine@extractor.engine=", "extractor.model=", "extractor.engine.base_url=")
        asked = [word for word in asked if not word.startswith(at)]
        asked += [f"{key}{value}" for key, value in zip(at, ("server", MODEL, judge), strict=True)]
    runs = ovmer.sweep(asked)
    assert set(runs.predictions.status) == {"ok"}
    if "task=question" in asked or "task=open_vocabulary" in asked:
        return  # their labels are no reply to a closed set
    assert runs.scores.value.notna().any()
    if is_judged:
        primary = runs.scores[runs.scores.figure.str.contains("total|recognition")]
        assert primary.value.iloc[0] == pytest.approx(0.6 if "smile" in words else 1.0)


@pytest.mark.parametrize(
    ("command", "words"), [each for each in COMMANDS if each[0] not in ("sweep", "check")]
)
def test_the_others(
    command: str,
    words: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if command == "tables":
        ovmer.sweep(["dataset=dfew", f"data_root={folder}", "baseline=scripted"])
        capsys.readouterr()
    asked = shlex.split(words.replace("/data", str(folder)))
    status, out, err = Inside(monkeypatch, capsys, folder)(command, *asked)
    assert (status, err) == (0, "")
    assert "careful" in out
