"""One set of run folders, and the page of it, for all tests of the report."""

from pathlib import Path

import pytest

from ovmer.baselines.errors import Status
from ovmer.runners.data import read_dataset
from ovmer.runners.folder.records import Prediction
from ovmer.runners.report.boards import make_boards
from ovmer.runners.report.page import write_page
from ovmer.runners.report.runs import collect
from ovmer.runners.sweeping.work import work
from tests.report.folders import MEGABYTE, SCRIPT, said, write_run
from tests.runners.conftest import command
from tests.runners.jobs import job

__all__ = ["command"]  # a fixture

CLIPS = [each.name for each in read_dataset(job("dataset=sample").settings.dataset)]


@pytest.fixture(scope="session")
def outputs(tmp_path_factory) -> Path:
    """Runs on `sample`: two real ones, a talkative one, a half one, one of another metric."""
    outputs = tmp_path_factory.mktemp("report") / "outputs"
    for name in ("lexicon", "ground_truth"):
        work(job(f"baseline={name}", f"outputs={outputs}"))
    texts = {
        "good_news": said(
            "good_news", f"She is happy. {SCRIPT}", thinking="A smile, so joy.", new_tokens=12
        ),
        "broken_promise": said("broken_promise", MEGABYTE),
        "farewell": said("farewell", "他很伤心，也很孤独。", notes=("the subtitle was cut",)),
        "late_night": Prediction(
            "late_night", Status.UNREADABLE, error="late_night.mp4: <b>no</b> video stream"
        ),
    }
    labels = {
        "good_news": ["happy", "angry"],
        "broken_promise": ["sad"],
        "farewell": ["sad", "lonely"],
    }
    rest = [name for name in CLIPS if name not in texts]
    write_run(
        outputs,
        "talker",
        [*texts.values(), *(said(name, f"{name} looks surprised") for name in rest)],
        labels | {name: ["surprised"] for name in rest},
    )
    write_run(outputs, "half", [said("good_news", "happy")], {"good_news": ["happy"]})
    write_run(
        outputs,
        "other_rule",
        [said(name, "sad") for name in CLIPS],
        {name: ["sad"] for name in CLIPS},
        "metric.parser=friendly",
    )
    return outputs


@pytest.fixture(scope="session")
def page(outputs) -> Path:
    path = outputs / "report.html"
    write_page(path, make_boards(collect([outputs])))
    return path
