"""What is read out of run folders, and what the page's data say of them."""

import base64
import gzip
import json
import re
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.commands import compare, report
from ovmer.runners.folder.scores_json import StoredScores, unlike_labels
from ovmer.runners.report.boards import make_boards
from ovmer.runners.report.clips import SEPARATOR
from ovmer.runners.report.page import write_page
from ovmer.runners.report.runs import collect
from ovmer.runners.scoring import make_metric
from ovmer.runners.sweeping.work import work
from tests.report.folders import MEGABYTE, SCRIPT, change_settings, said, write_run
from tests.runners.jobs import job


def parts(page) -> dict:
    """The data of a page, as its scripts read them."""
    text = page.read_text("utf-8")
    found = re.findall(r'<script id="([\w-]+)" type="text/plain" [^>]*>([^<]*)</script>', text)
    return {name: json.loads(gzip.decompress(base64.b64decode(body))) for name, body in found}


def test_runs_are_found_below_the_folders_given(outputs):
    names = {run.name for run in collect([outputs])}
    assert names == {"lexicon", "ground_truth", "talker", "half", "other_rule"}
    twice = collect([outputs / "sample" / "lexicon", outputs / "sample"])
    assert [run.name for run in twice].count("lexicon") == 1


def test_imported_figures_without_answers_are_left_out(outputs, tmp_path, capsys):
    (tmp_path / "otter").mkdir()
    about = {"baseline": {"name": "otter"}, "dataset": {"name": "ovmerd"}}
    (tmp_path / "otter" / "run.json").write_text(json.dumps({"imported": about}), "utf-8")
    (run,) = collect([tmp_path, outputs / "sample" / "lexicon"])
    assert run.name == "lexicon"
    assert "left out: " in (said := capsys.readouterr().err)
    assert "otter holds the figures of imported predictions" in said


def test_a_folder_that_cannot_be_read_is_left_out(outputs, tmp_path, capsys):
    for name, text in {"torn": '{"settings": {"base', "other": "{}", "list": "[]"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text, "utf-8")
    (run,) = collect([tmp_path, outputs / "sample" / "lexicon"])
    assert run.name == "lexicon"
    said = capsys.readouterr().err.splitlines()
    assert [line.startswith("left out: ") for line in said] == [True] * 3
    with pytest.raises(PrerequisiteError, match="no run folders there that can be shown"):
        collect([tmp_path])


def test_labels_that_were_made_otherwise_are_said_of_each_row(tmp_path, monkeypatch, capsys):
    """One leaderboard, but none of them unmarked; who names labels itself is like all."""
    (tmp_path / "truth.csv").write_text("name,openset\ngood_news,happy\nbroken_promise,sad\n")
    for overrides in (
        ("baseline=scripted", "variant=a"),
        ("baseline=scripted", "variant=b", "extractor.sentences=1"),
        ("baseline=random",),
    ):
        work(job(*overrides, "dataset=sample", "limit=2", f"outputs={tmp_path}"))
    found = {run.name: run for run in collect([tmp_path])}
    (board,) = make_boards(list(found.values()))
    marked = {row["name"]: row["warnings"] for row in board.as_json()["rows"]}
    assert marked.pop("random") == []
    assert len(marked) == 2
    made = {"scripted-a": "lexicon", "scripted-b": "lexicon-sentences_1"}
    for name, how in made.items():
        (warning,) = marked[name]
        assert warning.startswith(f"other labels: made by {how}, those of other rows")
    (board,) = make_boards([found["scripted-a"], found["random"]])
    assert all(row["warnings"] == [] for row in board.as_json()["rows"])
    for other, is_said in (("scripted-b", True), ("random", False)):
        runs = f"runs=[{found['scripted-a'].path},{found[other].path}]"
        monkeypatch.setattr(sys, "argv", ["compare", runs, f"truth={tmp_path}/truth.csv"])
        with pytest.raises(SystemExit):
            compare.main()
        said = "; ".join(f"{name}: {how}" for name, how in made.items())
        assert (f"may be the difference ({said})" in capsys.readouterr().out) is is_said


def test_what_differs_between_labels_of_one_name_is_said():
    same = {"model": "m", "sampling": "greedy", "seed": 0}
    made = {
        name: StoredScores("wheel", "M-avg", {}, extraction="qwen25", extractor=same | own)
        for name, own in {"a": {"dtype": "float32"}, "b": {"dtype": "own", "seed": 1}}.items()
    }
    assert unlike_labels(made) == {
        "a": "qwen25 with m, dtype=float32",
        "b": "qwen25 with m, dtype=own",
    }
    assert unlike_labels({"a": made["a"]}) == {}


def test_the_figures_are_those_of_the_run(outputs):
    folder = outputs / "sample" / "lexicon"
    (entry,) = json.loads((folder / "scores.json").read_text("utf-8"))["scores"].values()
    (board,) = make_boards(collect([folder]))
    shown = board.as_json()
    for name, (value, low, high) in zip(shown["figures"], shown["rows"][0]["figures"], strict=True):
        assert value == pytest.approx(entry["figures"][name], abs=1e-5)
        assert (low, high) == pytest.approx(entry["intervals"][name], abs=1e-5)


def test_labels_are_those_of_the_runs_own_extractor(outputs, tmp_path):
    folder = tmp_path / "lexicon"
    shutil.copytree(outputs / "sample" / "lexicon", folder)
    lines = (folder / "labels.jsonl").read_text("utf-8")
    other = lines.replace('"key":"', '"key":"x').replace("happy", "furious")
    (folder / "labels.jsonl").write_text(lines + other, "utf-8")
    (run,) = collect([folder])
    assert run.readings[0]["good_news"].labels == ("happy",)


def test_each_reading_of_an_extractor_with_seeds_counts(outputs, tmp_path):
    """Figures are the means over the seeds, as the sweep's table has them."""
    shutil.copytree(outputs / "sample" / "talker", tmp_path / "talker")
    (run,) = collect([tmp_path / "talker"])
    other = {name: each for name, each in run.readings[0].items() if name != "good_news"}
    single = [make_boards([run])[0].rows[0].figures]
    run.readings = [run.readings[0], other | {"good_news": other["farewell"]}]
    (row,) = make_boards([run])[0].rows
    single.append(row.scores[1].figures)
    assert row.figures["M-avg"] == pytest.approx(np.mean([each["M-avg"] for each in single]))


def test_a_clip_counts_fully_where_nothing_is_missed(outputs):
    (board,) = make_boards(collect([outputs / "sample" / "ground_truth"]))
    assert set(board.rows[0].per_clip) == {1.0}


def test_what_differs_in_data_or_rule_goes_to_another_board(outputs, tmp_path):
    folder = write_run(tmp_path, "few", [said("good_news", "happy")], {}, "dataset.limit=1")
    boards = make_boards(collect([outputs, folder]))
    assert sorted(board.names for board in boards) == [
        ["few"],
        ["ground_truth", "lexicon", "talker", "half"],
        ["other_rule"],
    ]
    assert [len(board.clips) for board in boards].count(1) == 1


def test_runs_with_other_clusters_of_clips_are_on_boards_of_their_own(tmp_path):
    rules = {"letter": "'^(.)'", "letters": "'^(..)'"}
    for what, pattern in rules.items():
        rule = f"+dataset.cluster={{what: {what}, pattern: {pattern}}}"
        write_run(tmp_path, what, [said("farewell", "sad")], {"farewell": ["sad"]}, rule)
    boards = make_boards(collect([tmp_path]))
    assert sorted(board.names for board in boards) == [["letter"], ["letters"]]


def test_runs_over_other_clips_without_truth_make_a_board_each(tmp_path):
    """`clips=FOLDER limit=1` beside the whole folder: a gallery's rows are over the same clips."""
    video = Path(__file__).parents[2] / "runners/data/sample/video/good_news.mp4"
    for name in ("anna", "bo"):
        shutil.copy(video, tmp_path / f"{name}.mp4")
    given = f"clips={tmp_path}", f"outputs={tmp_path / 'outputs'}"
    work(job("baseline=lexicon", *given))
    work(job("baseline=empty", "limit=1", *given))
    boards = make_boards(collect([tmp_path / "outputs"]))
    assert sorted(len(board.clips) for board in boards) == [1, 2]
    assert write_page(tmp_path / "report.html", boards)


def test_the_truth_itself_is_no_contestant(outputs):
    """It would be the best run, from which all others differ."""
    (board,) = make_boards(
        collect([outputs / "sample" / name for name in ("ground_truth", "lexicon", "talker")])
    )
    shown = board.as_json()
    assert [row["excluded"] for row in shown["rows"]] == ["upper bound", "", ""]
    assert shown["best"] == "lexicon"
    assert [row["ranks"] for row in shown["rows"]] == [None, (1, 2), (1, 2)]
    assert [(pair["a"], pair["b"]) for pair in shown["pairs"]] == [(1, 2)]


def test_a_half_finished_run_is_scored_on_what_it_has_and_not_compared(outputs):
    (board,) = make_boards(collect([outputs / "sample" / "half", outputs / "sample" / "lexicon"]))
    shown = board.as_json()
    half = next(row for row in shown["rows"] if row["name"] == "half")
    assert half["warnings"] == ["not finished: 9 of 10 clips are missing"]
    assert half["done"] == 1
    assert half["figures"][0][0] > 0
    assert half["excluded"] == "not finished"
    assert shown["best"] == "lexicon"
    assert shown["pairs"] == []
    assert shown["test"] is None


def test_a_clip_that_is_not_done_is_no_disagreement(outputs, tmp_path):
    runs = collect([outputs / "sample" / name for name in ("half", "talker")])
    boards = make_boards(runs)
    write_page(tmp_path / "page.html", boards)
    index = parts(tmp_path / "page.html")["index-0"]
    found = dict(zip(index["names"], index["disagreement"], strict=True))
    assert found["good_news"] == 0, "both name happy, and angry is not on this wheel"
    assert found["broken_promise"] is None, "nobody but the talker has answered"


def test_a_dry_run_takes_no_part_in_disagreement(outputs, tmp_path):
    runs = collect([outputs / "sample" / name for name in ("lexicon", "talker")])
    (talker,) = (run for run in runs if run.name == "talker")
    for is_dry in (False, True):
        talker.is_dry = is_dry
        write_page(tmp_path / "page.html", make_boards(runs))
        found = parts(tmp_path / "page.html")["index-0"]["disagreement"]
        assert all(each is None for each in found) is is_dry


def test_a_run_that_cannot_be_scored_takes_no_other_with_it(tmp_path):
    """The truth has several labels, and this metric takes one."""
    answers = [said("farewell", "sad")], {"farewell": ["sad"]}, "dataset.clips=[farewell]"
    write_run(tmp_path, "good", *answers)
    write_run(tmp_path, "odd", *answers, "metric=single_label")
    good, odd = make_boards(collect([tmp_path]))
    assert good.rows[0].excluded == ""
    assert odd.rows[0].excluded == "no clip is scored"
    (warning,) = odd.warnings
    assert warning.startswith("not scored: the truth of clip 'farewell' is 'sad, lonely")


def test_a_run_without_any_answer_has_a_row(tmp_path):
    folder = write_run(tmp_path, "nothing", [], {})
    (board,) = make_boards(collect([folder]))
    assert board.as_json()["rows"][0]["figures"] == []
    write_page(tmp_path / "page.html", [board])
    assert parts(tmp_path / "page.html")["index-0"]["rows"][0]["status"] == [-1] * 10


def test_a_data_set_that_has_moved_is_found_by_root(outputs, tmp_path):
    folder = tmp_path / "lexicon"
    shutil.copytree(outputs / "sample" / "lexicon", folder)
    root = job().settings.dataset["root"]
    change_settings(folder, root=str(tmp_path / "gone"))
    (lost,) = collect([folder])
    assert "no data set: without it" in lost.warnings[0]
    assert "there is no folder" in lost.warnings[0]
    shown = make_boards([lost])[0].as_json()
    assert shown["rows"][0]["figures"][0] == pytest.approx([0.29252, 0.07778, 0.48754], abs=1e-5)
    assert not shown["comparable"]

    from ovmer.runners.data import reader

    place = root.replace("{package}", str(reader.Path(reader.__file__).parent))
    (found,) = collect([folder], reader.Path(place))
    assert found.warnings == []
    assert len(found.truth) == 10


def test_media_that_are_gone_are_a_warning(outputs, tmp_path):
    from tests.runners.conftest import write_tables

    write_tables(tmp_path / "data", "abc")
    clips = [said(name, "happy") for name in "abc"]
    labels = {name: ["happy"] for name in "abc"}
    folder = write_run(
        tmp_path, "bare", clips, labels, "dataset=ovmerd", f"dataset.root={tmp_path / 'data'}"
    )
    (run,) = collect([folder])
    assert run.warnings[0].startswith("no media: the data set should have a folder")
    assert run.warnings[0].endswith("; root=FOLDER says where the data set is now")
    assert run.is_whole


def test_text_of_a_model_is_escaped_in_the_page(page):
    text = page.read_text("utf-8")
    assert SCRIPT not in text
    assert "hacked" not in text
    assert text.count("<script") == text.count("</script>")
    data = parts(page)
    texts = data["shard-0-0"]["texts"][2].split(SEPARATOR)
    assert SCRIPT in texts[0]
    assert texts[1] == MEGABYTE


def test_the_policy_lets_nothing_else_run(page):
    (policy,) = re.findall(r'Security-Policy" content="([^"]*)"', page.read_text("utf-8"))
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_runs_of_one_name_are_distinguished(outputs, tmp_path):
    twin = tmp_path / "again" / "sample" / "lexicon"
    shutil.copytree(outputs / "sample" / "lexicon", twin)
    (board,) = make_boards(collect([outputs / "sample" / "lexicon", twin]))
    assert len(set(board.names)) == 2
    assert all(name.endswith("lexicon") for name in board.names)


def test_a_clip_is_right_or_wrong_where_each_has_its_own_choices(tmp_path):
    metric = {
        "primary": "p/accuracy",
        "protocols": {"p": {"family": "choice", "parser": "careful"}},
    }
    names = ["good_news", "farewell"]
    made = make_metric({"kind": "protocols", **metric})
    clips = "dataset.clips=[good_news,farewell]"
    answers = [said(name, "yes") for name in names]
    (run,) = collect([write_run(tmp_path, "a", answers, {n: ["yes"] for n in names}, clips)])
    run.metric = made
    run.clips = [
        replace(clip, labels=(word,), choices=("yes", "no"))
        for clip, word in zip(run.clips, ("yes", "no"), strict=True)
    ]
    (board,) = make_boards([run])
    assert list(board.rows[0].per_clip) == [1, 0]


def test_errors_and_correlations_are_not_said_to_be_percent(outputs):
    (run,) = collect([outputs / "sample" / "lexicon"])
    protocols = {"p": {"family": "regression"}}
    run.metric = make_metric({"kind": "protocols", "primary": "p/CCC", "protocols": protocols})
    run.clips = [replace(clip, labels=("0.5",)) for clip in run.clips]
    (board,) = make_boards([run])
    shown = board.as_json()
    assert shown["unbounded"] == ["p/CCC", "p/MAE", "p/Pearson", "p/RMSE"]
    assert any("times 100" in note for note in shown["notes"])


def test_a_metric_over_classes_has_a_gallery_too(tmp_path):
    names = ["good_news", "farewell"]
    folder = write_run(
        tmp_path,
        "guess",
        [said(name, "happy") for name in names],
        {name: ["happy"] for name in names},
        "metric=single_label",
        "dataset.clips=[good_news,farewell]",
    )
    (run,) = collect([folder])
    run.clips = [
        type(clip)(**asdict(clip) | {"labels": (word,)})
        for clip, word in zip(run.clips, ("happy", "sad"), strict=True)
    ]
    boards = make_boards([run])
    write_page(tmp_path / "page.html", boards)
    page = parts(tmp_path / "page.html")
    assert page["index-0"]["rows"][0]["score"] == [100, 0]
    assert page["index-0"]["mappings"] == ["as written"]
    assert page["leaderboards"]["boards"][0]["clusters"] == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["."], "no run folders there"),
        (["output=page.html"], "name the run folders"),
        (["ouput=page.html", "."], "there is no key ouput"),
        ([".", "embed=perhaps"], "embed is 'perhaps'"),
    ],
)
def test_what_is_wrong_is_one_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ovmer report", *arguments])
    with pytest.raises(SystemExit) as ended:
        report.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert sentence in said
    assert said.count("\n") == 1


def test_the_page_is_a_file_in_a_folder_that_is_there(tmp_path):
    for output, sentence in ((tmp_path, "is a folder"), (tmp_path / "a" / "b", "is no folder")):
        with pytest.raises(PrerequisiteError, match=sentence):
            write_page(output, [])


def test_the_command_writes_a_page_where_the_runs_are(command, tmp_path):
    work(job("baseline=lexicon", f"outputs={tmp_path / 'outputs'}"))
    done = command("report", "outputs/sample/lexicon")
    assert done.returncode == 0, done.stderr
    assert "runs: 1, leaderboards: 1" in done.stdout
    page = tmp_path / "outputs" / "sample" / "report.html"
    assert parts(page)["index-0"]["names"][0] == "good_news"
    assert not list(page.parent.glob(".*.new"))

    again = command("report", "outputs/sample/lexicon", "outputs/sample/report.html")
    assert again.returncode == 0, again.stderr
