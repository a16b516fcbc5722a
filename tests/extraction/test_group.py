"""Groups freshly asked of a language model, and the score that follows from them."""

import json
from pathlib import Path

import pytest

from ovmer.runners.folder.imported import add_to_run
from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.scoring import score
from ovmer.runners.sweeping.work import work
from tests.extraction.fake_server import Misbehaviour, error, serving
from tests.runners.conftest import Command, command
from tests.runners.jobs import job

__all__ = ["command"]  # a fixture

PREDICTIONS = 'name,openset\na,"[Happy, glad]"\nb,"[\'tired\']"\n'
TRUTH = 'name,openset\na,[joyful]\nb,"[sleepy, sad]"\n'


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "pred.csv").write_text(PREDICTIONS)
    (tmp_path / "true.csv").write_text(TRUTH)
    return ["predictions=pred.csv", "truth=true.csv", "replies=groups.jsonl", "bootstrap=0"]


def asking(url: str) -> list[str]:
    engine = "engine@extractor.engine=server", f"extractor.engine.base_url={url}"
    return [*engine, "extractor.model=mini", "extractor.engine.retries=0"]


def group(n: int, request: dict) -> str | Misbehaviour:
    prompt = request["messages"][0]["content"]
    if prompt.endswith("Input: ['glad', 'happy', 'joyful'] Output:"):
        return "Output: [['happy', 'glad',\n 'joyful']]"
    if prompt.endswith("Input: ['sad', 'sleepy', 'tired'] Output:"):
        return "[['sleepy', 'tired'], ['sad']]"
    return error(400, f"what is {prompt[-60:]}?")


def test_labels_are_grouped_and_scored(files: list[str], tmp_path: Path, command: Command):
    with serving(group) as server:
        ran = command("group", *files, *asking(server.url))
    assert ran.returncode == 0, ran.stderr
    lines = (tmp_path / "groups.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"name": "a", "reply": "[['happy', 'glad', 'joyful']]", "grouped_by": "mini"},
        {"name": "b", "reply": "[['sleepy', 'tired'], ['sad']]", "grouped_by": "mini"},
    ]
    assert "groups by mini: another model" in ran.stdout
    assert "accuracy  100.00" in ran.stdout
    assert "recall     75.00" in ran.stdout
    scored = command(
        "score", *files[:2], *files[3:], "metric=grouping", "metric.replies=groups.jsonl"
    )
    assert scored.stdout == ran.stdout


def test_a_clip_without_a_reply_is_reported_and_does_not_count(
    files: list[str], tmp_path: Path, command: Command
):
    (tmp_path / "pred.csv").write_text(PREDICTIONS.replace("tired", "weary"))
    with serving(group) as server:
        ran = command("group", *files, *asking(server.url))
    assert ran.returncode == 1
    assert "b: the server refused the question with 400" in ran.stderr
    assert "1 of 2 clips have no reply and do not count" in ran.stdout


def test_an_extractor_without_a_model_cannot_group(files: list[str], command: Command):
    ran = command("group", *files, "extractor=lexicon")
    assert ran.returncode == 2
    assert ran.stderr == "extractor=lexicon has no language model; add extractor=qwen25\n"


def test_figures_by_another_model_replace_the_first_and_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    made = job("baseline=lexicon", "dataset=sample", "limit=1", f"outputs={tmp_path}")
    work(made)
    for model in ("mini", "large"):
        by = {"replies": {"a": "[]"}, "grouped_by": model}
        assert add_to_run(made.folder, score({"a": "sad"}, {"a": "sad"}, "grouping", **by))
    found = RunFolder(made.folder).read_scores()["lexicon/grouping"]
    assert found.conditions["grouped_by"] == "large"
    said = capsys.readouterr().err
    assert said.count("the figures of lexicon/grouping with grouped_by=mini are replaced") == 1
