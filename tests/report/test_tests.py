"""Ten runs with three readings each, one without labels, one without some clips: who says what.

The leaderboard's marks, the comparison view and `ovmer compare` rest on the same numbers.
"""

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from ovmer.baselines.errors import Status
from ovmer.runners.folder.records import LabelRecord, Prediction, identity_text, label_key
from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.folder.run_json import RunInfo
from ovmer.runners.folder.scores_json import stored_scores
from ovmer.runners.report.boards import Leaderboard, make_boards
from ovmer.runners.report.page import write_page
from ovmer.runners.report.runs import collect
from ovmer.runners.scoring import make_metric
from ovmer.runners.scoring.result import mean_scores
from tests.report.browser import Browser
from tests.report.folders import said
from tests.report.folders import write_run as write_answers
from tests.runners.conftest import command, write_tables
from tests.runners.jobs import job

__all__ = ["command"]  # a fixture

CLIPS = [f"clip{i:03d}" for i in range(120)]
TRUE = "happy"
MISSING = 30
EXTRACTOR = {"name": "qwen25", "model": "a language model", "temperature": 0.7}
SEEDS = (1, 2, 3)


def write_run(outputs: Path, root: Path, number: int, clips: list[str], *, labelled: bool) -> None:
    """A run that is right on a share of the clips that falls with its number."""
    made = job(
        "dataset=ovmerd",
        f"dataset.root={root}",
        "baseline=random",
        f"baseline.name=run{number}",
        f"outputs={outputs}",
        "extractor=qwen25",
        f"extractor.seeds={list(SEEDS)}".replace(" ", ""),
    )
    random = np.random.default_rng(number)
    readings: list[dict[str, tuple[str, ...]]] = []
    with RunFolder(made.folder) as folder:
        for name in clips:
            folder.predictions.append(Prediction(name, Status.OK, f"of {name}"))
        for seed in SEEDS if labelled else ():
            identity = identity_text({**EXTRACTOR, "seed": seed})
            right = random.random(len(clips)) < 0.9 - 0.05 * number
            words = [(TRUE,) if each else ("sad",) for each in right]
            readings.append(dict(zip(clips, words, strict=True)))
            for name, found in readings[-1].items():
                key = label_key(name, f"of {name}", None, True, identity)
                folder.labels.append(LabelRecord(name, found, ", ".join(found), key))
        if readings:
            metric = make_metric(made.settings.metric)
            truth = dict.fromkeys(clips, TRUE)
            scores = mean_scores([metric.score(each, truth) for each in readings])
            entry = stored_scores(
                scores.with_intervals(), extraction=made.extraction, extractor=EXTRACTOR
            )
            folder.write_scores([entry])
        info = RunInfo(made.identity, asdict(made.settings), answers="labels", clips=len(CLIPS))
        folder.write_info(info)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("tests")
    root = write_tables(base / "data", CLIPS)
    rows = [f"{name},{TRUE}" for name in CLIPS]
    table = root / "track2_train_ovmerd.csv"
    table.write_text("\n".join(["name,openset", *rows]) + "\n", "utf-8")
    for number in range(10):
        clips = CLIPS[:-MISSING] if number == 3 else CLIPS
        write_run(base / "outputs", root, number, clips, labelled=number != 5)
    return base / "outputs"


def board(outputs: Path, missing: str = "zero") -> Leaderboard:
    (found,) = make_boards(collect([outputs]), missing)
    return found


def test_who_is_compared_and_who_is_not(outputs: Path) -> None:
    plain, skipping = board(outputs), board(outputs, "skip")
    reasons = {row.name: row.excluded for row in plain.rows if row.excluded}
    assert reasons == {"run3": "not finished", "run5": "no labels"}
    assert plain.family is not None
    assert len(plain.family.pairs) == 28
    assert {row.name: row.excluded for row in skipping.rows if row.excluded} == {
        "run5": "no labels"
    }
    assert skipping.family is not None
    assert skipping.family.clips == len(CLIPS) - MISSING
    assert skipping.as_json()["clusters"]["M3-W1-L1"][TRUE]["true"] == len(CLIPS) - MISSING
    (note,) = skipping.notes
    assert note.startswith("compared on 90 clips, without clips that not all runs have: 30 of 120")


def test_each_figure_is_the_mean_of_its_readings_with_an_interval_over_clips(outputs: Path) -> None:
    found = board(outputs)
    told = found.as_json()
    first = found.rows[0]
    assert len(first.scores) == 3
    single = [each.figures["M-avg"] for each in first.scores]
    value, low, high = told["rows"][0]["figures"][0]
    assert value == pytest.approx(np.mean(single), abs=1e-5)
    assert told["rows"][0]["spread"]["s"] == pytest.approx(np.std(single, ddof=1), abs=1e-5)
    stored = json.loads((first.run.path / "scores.json").read_text("utf-8"))
    (entry,) = stored["scores"].values()
    assert (low, high) == pytest.approx(entry["intervals"]["M-avg"], abs=1e-5)
    (parts,) = (each for each in told["variance"] if each["runs"] == first.name)
    assert parts["label"] == told["rows"][0]["spread"]["s"]
    assert parts["generation"] is None


@pytest.mark.parametrize("missing", ["zero", "skip"])
def test_the_command_says_what_the_leaderboard_says(
    outputs: Path, command, tmp_path: Path, missing: str
) -> None:
    """All runs at once; with missing=skip also the one that lacks clips."""
    found = board(outputs, missing)
    assert found.family is not None
    (folder,) = outputs.iterdir()
    runs = [folder / name for name in found.family.figures]
    done = command(
        "compare",
        f"runs=[{','.join(map(str, runs))}]",
        f"truth={outputs.parent}/data/track2_train_ovmerd.csv",
        f"missing={missing}",
        f"output={tmp_path}/pairs.csv",
    )
    assert done.returncode == 0, done.stderr
    assert "mean of 3 readings" in done.stdout
    import csv

    with (tmp_path / "pairs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found.family.pairs)
    for row in rows:
        pair = found.family.pair(row["first"], row["second"])
        assert pair is not None
        assert float(row["difference"]) == pair.difference
        assert (float(row["p"]), float(row["p_all"])) == (pair.p_alone, pair.p)
        assert (float(row["all_low"]), float(row["all_high"])) == pair.simultaneous


def test_an_error_names_the_run_that_lacks_clips(outputs: Path, command) -> None:
    (folder,) = outputs.iterdir()
    done = command(
        "compare",
        f"runs=[{folder}/run0,{folder}/run3]",
        f"truth={outputs.parent}/data/track2_train_ovmerd.csv",
    )
    assert done.returncode == 2
    assert f"{folder}/run3: 30 of 120 clips have no prediction" in done.stderr
    assert "missing=skip (they are left out)" in done.stderr


def test_the_page_gives_one_answer_in_both_views(outputs: Path, tmp_path: Path) -> None:
    browser = Browser()
    try:
        found = board(outputs)
        page = tmp_path / "page.html"
        write_page(page, [found])
        browser.open(page)
        rows = browser.texts(".table-responsive[aria-label=Figures] tbody tr")
        told = dict(zip(found.names, rows, strict=True))
        best = found.best
        assert best is not None
        assert "rank" in told[best]
        assert "rerun ±" in told[best]
        assert "no labels" in told["run5"]
        assert "points of M-avg apart would be detected" in browser.text("#detectable")
        browser.run("document.querySelectorAll('details').forEach((each) => (each.open = true))")
        legend = browser.text("main")
        for word in ("step-down maxT", "* worse: behind the best", "s: the standard deviation"):
            assert word in legend
        for name in [name for name in found.family.figures if name != best]:
            marked = "* worse" in told[name]
            a, b = found.names.index(best), found.names.index(name)
            browser.open(page, f"view=compare&a={a}&b={b}")
            browser.wait_for("section[aria-label='Paired test']", " in M-avg")
            view = browser.text("section[aria-label='Paired test']")
            assert (f"{best} is better" in view) == marked
            (p,) = re.findall(r"p ([=<] [\d.]+)", told[name])
            assert f"p {p}" in view
        assert browser.complaints() == []
    finally:
        browser.close()


def test_runs_of_other_generation_seeds_give_that_part_of_the_noise(tmp_path: Path) -> None:
    names = ["good_news", "farewell", "broken_promise", "late_night"]
    labels = [["happy"] * 4, ["happy", "sad", "angry", "sad"]]
    for seed, said_labels in enumerate(labels):
        write_answers(
            tmp_path,
            "talker",
            [said(name, "words") for name in names],
            {name: [label] for name, label in zip(names, said_labels, strict=True)},
            f"dataset.clips=[{','.join(names)}]",
            f"seed={seed}",
        )
    (found,) = make_boards(collect([tmp_path]))
    (parts,) = found.as_json()["variance"]
    assert parts["runs"].split(", ") == found.names
    figures = [row.figures["M-avg"] for row in found.rows]
    assert parts["generation"] == pytest.approx(np.std(figures, ddof=1), abs=1e-5)
    assert parts["label"] is None


def test_a_seed_that_is_not_finished_has_no_part_in_the_noise(tmp_path: Path) -> None:
    for seed, names in enumerate((["good_news", "farewell"], ["farewell"])):
        answers = [said(name, "words") for name in names]
        labels = {name: ["happy"] for name in names}
        clips = "dataset.clips=[good_news,farewell]"
        write_answers(tmp_path, "talker", answers, labels, clips, f"seed={seed}")
    (found,) = make_boards(collect([tmp_path]))
    assert [row.excluded for row in found.rows] == ["", "not finished"]
    assert found.as_json()["variance"] == []
