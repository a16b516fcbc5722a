"""A job in this process: what is done again, what is kept, and what the folder holds."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from ovmer.baselines.errors import ClipError, PrerequisiteError, Status
from ovmer.runners.data import read_dataset
from ovmer.runners.describing.failures import MOST_ALIKE
from ovmer.runners.folder.imported import add_to_run
from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.job import Job
from ovmer.runners.scoring import make_metric
from ovmer.runners.sweeping.state import look
from ovmer.runners.sweeping.work import work
from tests.runners.conftest import write_tables
from tests.runners.jobs import job


@pytest.fixture
def base(data, tmp_path):
    return ("dataset=ovmerd", f"dataset.root={data}", f"outputs={tmp_path / 'out'}", "batch_size=2")


def lines(made, name="predictions.jsonl"):
    return [json.loads(line) for line in (made.folder / name).read_text("utf-8").splitlines()]


def described(made):
    """The clips that a run of `made` describes now."""
    before = len(lines(made)) if made.folder.exists() else 0
    work(made)
    return [each["name"] for each in lines(made)[before:]]


def test_a_second_run_has_nothing_to_do(base):
    made = job("baseline=scripted", *base)
    assert described(made) == list("abcdef")
    assert look(made, read_dataset(made.settings.dataset)).is_done
    assert described(made) == []
    assert len(lines(made, "labels.jsonl")) == 6


def test_only_changed_clips_are_done_again(base, data):
    made = job("baseline=scripted", *base)
    work(made)
    (data / "video" / "b.mp4").write_bytes(b"another film")
    (data / "audio" / "c.wav").write_bytes(b"C")  # of the same size
    (data / "audio" / "d.wav").write_bytes(b"another sound")
    table = data / "subtitle_chieng.csv"
    table.write_text(table.read_text("utf-8").replace("e,我很好,I am", "e,我很好,We are"), "utf-8")
    assert described(made) == list("bcde")
    assert described(made) == []


def test_a_touched_file_is_read_before_its_clip_is_asked_again(base, data, capsys):
    made = job("baseline=scripted", *base)
    work(made)
    for name in "abc":
        os.utime(data / "video" / f"{name}.mp4", ns=(1, 1))
    (data / "video" / "c.mp4").write_bytes(b"X")
    assert not look(made, read_dataset(made.settings.dataset)).is_done, "the dates are to be noted"
    capsys.readouterr()
    assert described(made) == ["a", "b", "c"], "two with their new dates, and the changed one"
    assert "2 clips have another date but the same content" in capsys.readouterr().err
    records = {each["name"]: each for each in lines(made)}
    assert records["a"]["fingerprint"]["video"].startswith("1-1-")
    assert look(made, read_dataset(made.settings.dataset)).is_done
    assert described(made) == []
    assert "another date" not in capsys.readouterr().err


def test_an_answer_of_before_contents_were_kept_is_asked_again_when_touched(base, data):
    made = job("baseline=scripted", *base)
    work(made)
    file = made.folder / "predictions.jsonl"
    old = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    for each in old:
        for kind, known in each["fingerprint"].items():
            each["fingerprint"][kind] = "-".join(known.split("-")[:2])
    file.write_text("".join(json.dumps(each) + "\n" for each in old), "utf-8")
    os.utime(data / "video" / "b.mp4", ns=(1, 1))
    assert described(made) == ["b"]


@pytest.mark.parametrize(
    ("wish", "again"),
    [
        ("true", "abcdef"),
        ("failed", "c"),
        ("'[ab]'", "ab"),
        ("[d,'e*']", "de"),
        ("false", ""),
    ],
)
def test_clips_are_asked_again_on_request(base, wish, again):
    settings = ("baseline=scripted", *base, "+baseline.prepare_fails={c: unreadable}")
    work(job(*settings))
    state = work(job(*settings, f"redo={wish}"))
    assert [each["name"] for each in lines(state.job)[6:]] == list(again)
    assert state.is_done
    assert RunFolder(state.job.folder).info().settings["redo"] is False


def test_a_wish_for_clips_that_are_not_there_is_refused(base):
    with pytest.raises(PrerequisiteError, match=r"redo=x\* is the name of no clip; .* 'a'"):
        work(job("baseline=scripted", *base, "redo='x*'"))


def test_a_baseline_that_uses_no_file_does_not_mind_changed_files(base, data):
    made = job("baseline=random", *base)
    work(made)
    (data / "video" / "b.mp4").write_bytes(b"another film")
    assert described(made) == []


def test_ground_truth_is_redone_where_the_truth_has_changed(base, data):
    made = job("baseline=ground_truth", *base)
    work(made)
    table = data / "track2_train_ovmerd.csv"
    table.write_text(table.read_text("utf-8").replace('b,"[sad', 'b,"[proud'), "utf-8")
    assert described(made) == ["b"]
    assert lines(made)[-1]["description"].startswith("proud")


def test_files_that_are_not_looked_at_are_not_held_against_a_run(base):
    made = job("baseline=scripted", *base)
    work(made)
    assert described(job("baseline=scripted", *base, "dataset.check_files=false")) == []


@pytest.mark.parametrize(
    ("failure", "again"),
    [("unreadable", []), ("out_of_memory", ["c"]), ("refused", ["c"]), ("bug", ["c"])],
)
def test_failures_that_may_pass_are_tried_again(base, failure, again):
    made = job("baseline=scripted", *base, f"+baseline.generate_fails={{c: {failure}}}")
    work(made)
    assert described(made) == again


def test_a_clip_that_failed_is_done_when_its_file_has_changed(base, data):
    made = job("baseline=scripted", *base, "+baseline.prepare_fails={c: unreadable}")
    work(made)
    (data / "video" / "c.mp4").write_bytes(b"mended")
    assert described(made) == ["c"]


def test_more_clips_are_added_to_the_same_folder(base):
    assert described(job("baseline=random", *base, "dataset.limit=2")) == ["a", "b"]
    assert described(job("baseline=random", *base, "dataset.clips=[b,e]")) == ["e"]
    state = work(job("baseline=random", *base))
    assert list(state.predictions) != []
    assert sorted(state.predictions) == list("abcdef")


def test_another_extractor_leaves_the_descriptions_alone(base):
    settings = ("baseline=scripted", *base, "baseline.default=He is sad. Now he is happy.")
    made = job(*settings)
    work(made)
    other = job(*settings, "extractor.sentences=1")
    assert described(other) == []
    assert len(lines(made, "labels.jsonl")) == 12
    table = (made.folder / "predictions.csv").read_bytes()
    assert not look(made, read_dataset(made.settings.dataset)).is_done, "the table is the other's"
    assert described(made) == []
    assert len(lines(made, "labels.jsonl")) == 12, "labels of before are still there"
    assert look(made, read_dataset(made.settings.dataset)).is_done
    assert (made.folder / "predictions.csv").read_bytes() != table


def test_changed_truth_or_metric_is_scored_again(base, data):
    made = job("baseline=scripted", *base)
    before = work(made).scores
    assert work(job("baseline=scripted", *base, "metric.primary=level1")).scores != before
    table = data / "track2_train_ovmerd.csv"
    table.write_text(table.read_text("utf-8").replace("[happy", "[proud"), "utf-8")
    state = look(made, read_dataset(made.settings.dataset))
    assert state.scores is None
    assert not state.is_done


def test_a_folder_of_other_settings_is_refused_with_what_differs(base):
    work(job("baseline=random", *base))
    other = job("baseline=random", *base, "baseline.labels=3", "baseline.source=wheels")
    other = Job(other.settings, base)  # as if the yaml itself had been edited
    with pytest.raises(PrerequisiteError) as caught:
        work(other)
    assert "baseline.labels (1 there, 3 now)" in str(caught.value)
    assert 'baseline.source ("basic" there, "wheels" now)' in str(caught.value)
    assert "variant=WORD" in str(caught.value)


def test_edited_code_of_the_adapter_is_named_in_words(base):
    made = job("baseline=random", *base)
    work(made)
    folder = RunFolder(made.folder)
    old, new = ({**folder.info().identity, "baseline.code": each} for each in ("7f", "8e"))
    with folder:
        folder.write_info(replace(folder.info(), identity=old))
    with pytest.raises(
        PrerequisiteError, match=r"the adapter's code was edited since.*variant=WORD"
    ):
        folder.check(new)


def test_a_folder_without_a_described_clip_is_begun_anew(base, capsys):
    """A yaml that did not work at first is corrected, without a word about the folder."""
    made = job("baseline=scripted", *base)
    work(made)
    folder = RunFolder(made.folder)
    failed = [
        replace(each, status=Status.CRASHED, description="", error="it broke", made_by="before")
        for each in folder.read_predictions().values()
    ]
    before = replace(folder.info(), identity={**folder.info().identity, "seed": 77})
    with folder:
        folder.clear()
        for each in failed:
            folder.predictions.append(each)
        folder.write_info(before)
    assert look(made, read_dataset(made.settings.dataset)).predictions == {}
    assert work(made).is_fine
    assert "no clip was described; begun anew" in capsys.readouterr().err
    assert {each.name for each in folder.read_predictions().values()} == {x.name for x in failed}
    assert len((folder.path / "predictions.jsonl").read_text("utf-8").splitlines()) == len(failed)

    one = replace(failed[0], status=Status.OK, description="She smiles.")
    with folder:
        folder.predictions.append(one)
        folder.write_info(before)
    with pytest.raises(PrerequisiteError, match="was made with other settings: seed"):
        work(made)


def test_a_folder_that_is_being_written_is_refused(base):
    made = job("baseline=random", *base)
    with (
        RunFolder(made.folder),
        pytest.raises(PrerequisiteError, match="another run is writing to"),
    ):
        work(made)
    assert described(made) == list("abcdef")


def test_on_error_raise_stops_at_once_and_keeps_what_was_done(base):
    made = job("baseline=scripted", *base, "+baseline.generate_fails={c: bug}", "on_error=raise")
    with pytest.raises(ClipError, match=r"^c: ZeroDivisionError"):
        work(made)
    assert [each["name"] for each in lines(made)] == ["a", "b"]


def test_clips_that_failed_count_as_no_labels_and_are_left_out_beside(base):
    answers = "+baseline.answers={a: happy,b: happy}"
    made = job("baseline=scripted", *base, "+baseline.generate_fails={b: timeout}", answers)
    scores = work(made).scores
    assert scores.n_clips == 6
    assert scores.figures["level1/recall"] < scores.answered_only["level1/recall"]


def test_a_data_set_without_truth_is_described_and_not_scored(base):
    state = work(job("baseline=scripted", *base, "dataset.labels.column=null"))
    assert state.is_done
    assert state.scores is None
    assert not (state.job.folder / "scores.json").exists()


def test_the_exchange_files_hold_what_others_read(base):
    made = job("baseline=scripted", *base, "+baseline.generate_fails={c: timeout}")
    work(made)
    with np.load(made.folder / "results-scripted.npz", allow_pickle=True) as file:
        reasons = file["name2reason"].item()
    assert list(reasons) == list("abcdef")
    assert reasons["c"] == ""
    assert reasons["a"] == made.adapter.default
    with np.load(made.folder / "scripted-openset.npz") as file:
        opensets = dict(zip(file["filenames"].tolist(), file["fileitems"].tolist(), strict=True))
    assert opensets["a"] == "[happy, surprised]"
    assert opensets["c"] == "[]"
    table = (made.folder / "predictions.csv").read_text("utf-8").splitlines()
    assert table[0] == "name,status,openset,description,error"
    assert table[3].startswith("c,timeout,,,")


def test_run_json_says_what_made_the_run(base):
    made = job("baseline=scripted", *base, "dataset.limit=4")
    work(made)
    told = json.loads((made.folder / "run.json").read_text("utf-8"))
    assert told["identity"] == made.identity
    assert told["settings"]["dataset"]["limit"] == 4
    assert told["status"] == {"ok": 4}
    (session,) = told["sessions"]
    assert session["described"] == 4
    assert session["packages"]["numpy"] == np.__version__
    assert session["overrides"] == list(made.overrides)


def candidates(data, *names):
    (data / "candidates.csv").write_text("name\n" + "\n".join(names) + "\n", "utf-8")
    return ("dataset.labels.file=candidates.csv", "dataset.labels.column=null")


def test_candidates_without_truth_give_a_submission(base, data):
    """In the order of the organisers' list, with a failed clip as one without labels."""
    given = (*base, *candidates(data, "c", "a", "b"), "dataset.submission=openset")
    made = job("baseline=scripted", "+baseline.prepare_fails.a=unreadable", *given)
    state = work(made)
    assert (state.scores, state.is_done) == (None, True)
    text = (made.folder / "submission.csv").read_text("utf-8")
    assert text == 'name,openset\nc,"[happy, surprised]"\na,[]\nb,"[happy, surprised]"\n'
    with np.load(made.folder / "scripted-openset.npz") as archive:
        assert archive["filenames"].tolist() == ["c", "a", "b"]


def test_a_basic_emotion_is_submitted_without_brackets(base, data):
    given = (*base, *candidates(data, "a"), "dataset.submission=discrete")
    made = job("baseline=scripted", "+baseline.answers.a=worried", "baseline.labels=true", *given)
    work(made)
    assert (made.folder / "submission.csv").read_text("utf-8") == "name,discrete\na,worried\n"


def test_with_a_truth_there_is_nothing_to_submit(base):
    made = job("baseline=scripted", "dataset.submission=openset", *base)
    work(made)
    assert not (made.folder / "submission.csv").exists()


def test_a_sentiment_takes_a_language_model(base):
    with pytest.raises(PrerequisiteError, match=r"scored by its sentiment.*add extractor=qwen25"):
        work(job("baseline=scripted", *base, "dataset.target=sentiment"))


def test_run_json_says_how_fast_it_was(base, capsys):
    slow = ("baseline.generate_seconds=0.02", "baseline.prepare_seconds=0.06", "workers=1")
    made = job("baseline=scripted", *base, *slow, "batch_size=1")
    work(made)
    speed = json.loads((made.folder / "run.json").read_text("utf-8"))["sessions"][-1]["speed"]
    assert speed["clips"] == 6
    words = 6 * len(made.adapter.default.split())
    assert speed["new_tokens"] == words
    assert speed["new_tokens_per_second"] == pytest.approx(words / speed["seconds"], rel=0.1)
    assert speed["generator_waited"] > 0.4  # of 80 ms 60, but for the last clip
    assert speed["peak_memory_mb"] > 20
    assert "the generator waited" in capsys.readouterr().err


def test_a_generator_that_is_fed_does_not_wait(base):
    made = job("baseline=scripted", *base, "baseline.generate_seconds=0.05", "batch_size=1")
    work(made)
    speed = json.loads((made.folder / "run.json").read_text("utf-8"))["sessions"][-1]["speed"]
    assert speed["generator_waited"] < 0.4


def test_a_run_that_cannot_start_says_why_in_its_folder(base, monkeypatch):
    """So that a table can: here the weights are missing."""

    def no_weights(self, machine):
        raise PrerequisiteError("there are no weights of this model; get them")

    made = job("baseline=scripted", *base)
    monkeypatch.setattr(type(made.adapter), "load", no_weights)
    with pytest.raises(PrerequisiteError):
        work(made)
    info = RunFolder(made.folder).info()
    assert (info.problem, info.described) == ("there are no weights of this model; get them", 0)
    monkeypatch.undo()
    work(made)
    assert RunFolder(made.folder).info().problem is None


def test_figures_that_are_found_afterwards_join_those_of_the_run(base):
    """The groups of a language model are asked for when the run is done."""
    made = job("baseline=scripted", *base)
    state = work(made)
    metric = make_metric({"name": "grouping", "replies": dict.fromkeys("abcdef", "[]")})
    scores = metric.score(state.readings[0].found, state.truth)
    assert add_to_run(made.folder, scores)
    kept = {each.metric: each for each in RunFolder(made.folder).read_scores().values()}
    assert kept["grouping"].figures["F"] == scores.figures["F"]
    assert kept["grouping"].extractor == kept["wheel"].extractor
    assert not add_to_run(made.folder / "nowhere", scores)


@pytest.mark.parametrize("failures", [MOST_ALIKE, MOST_ALIKE - 1])
def test_clips_that_all_crash_at_one_line_end_the_run_at_once(tmp_path, failures):
    names = [f"clip{number:02}" for number in range(MOST_ALIKE + 5)]
    root = write_tables(tmp_path / "data", names)
    fails = ",".join(f"{name}: bug" for name in names[:failures])
    asked = [
        *("baseline=scripted", f"+baseline.generate_fails={{{fails}}}", "dataset=ovmerd"),
        *(f"dataset.root={root}", "dataset.check_files=false", f"outputs={tmp_path / 'out'}"),
    ]
    made = job(*asked)
    if failures < MOST_ALIKE:
        assert work(made).counts == {Status.CRASHED: failures, Status.OK: len(names) - failures}
        return
    sentence = r"first 20 clips all crashed at one line, the last being clip19: ZeroDivisionError"
    with pytest.raises(PrerequisiteError, match=sentence):
        work(made)
    assert [each["status"] for each in lines(made)] == ["crashed"] * MOST_ALIKE
    assert work(job(*asked, "dataset.clips=[clip22]")).counts == {Status.OK: 1}, "as it says"
    assert work(job(*asked)).counts == {Status.CRASHED: failures, Status.OK: 5}, "the others too"
