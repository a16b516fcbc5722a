"""Dictionaries and files as they come: a defined result or one sentence for each."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.folder.exchange import read_labels
from ovmer.runners.scoring import Scores, score
from ovmer.runners.scoring.label_files import Columns
from ovmer.runners.scoring.vocabulary import SHIPPED

OPENSET = Columns(("openset", "labels"))


@pytest.fixture(autouse=True)
def _no_warnings() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def wheel(predictions: dict[str, Any], truth: dict[str, Any], **more: Any) -> Scores:
    return score(predictions, truth, wheel_root=SHIPPED, bootstrap=200, **more)


def test_labels_outside_the_vocabulary_are_counted_and_one_is_shown() -> None:
    scores = wheel({"a": ["happy"], "b": ["sad"]}, {"a": ["curious; content"], "b": ["sad"]})
    said = "1 of 2 labels in the truth are not in the vocabulary, e.g. 'curious; content'"
    assert said in scores.notes


def test_empty_predictions_everywhere() -> None:
    truth = {"a": "happy", "b": "sad, angry", "c": "mad", "d": "joyful"}
    scores = wheel({"a": "[]", "b": "", "c": None, "d": []}, truth)
    assert scores.figures["M-avg"] == 0.0
    low, high = scores.intervals["M-avg"]
    assert low == 0.0
    assert high == pytest.approx(0.4899, abs=1e-4), "Wilson's for 0 of 4"
    assert scores.n_counted == 4


def test_all_truth_outside_the_vocabulary() -> None:
    scores = wheel({"a": "happy"}, {"a": "neutral"})
    assert set(scores.figures.values()) == {0.0}
    assert scores.n_counted == 0
    assert any("no clip counts" in note for note in scores.notes)
    assert scores.unknown() == [["label", "truth", "predictions"], ["neutral", 1, 0]]


def test_no_truth_and_no_common_names() -> None:
    with pytest.raises(PrerequisiteError, match="ground truth is empty"):
        wheel({"a": "happy"}, {})
    with pytest.raises(PrerequisiteError, match=r"no clip in common: a\.mp4 against a;"):
        wheel({"a.mp4": "happy"}, {"a": "happy"})


def test_missing_names() -> None:
    predictions, truth = {"a": "happy", "x": "sad"}, {"a": "happy", "b": "sad", "c": "sad"}
    with pytest.raises(PrerequisiteError, match=r"2 of 3 clips have no prediction \(b, c\)"):
        wheel(predictions, truth)
    zero = wheel(predictions, truth, missing="zero")
    assert zero.n_clips == 3
    assert zero.figures["M1/recall"] == pytest.approx(1 / 3)
    skip = wheel(predictions, truth, missing="skip")
    assert (skip.n_clips, skip.figures["M1"]) == (1, 1.0)
    assert any("without truth: x" in note for note in skip.notes)
    with pytest.raises(PrerequisiteError, match="choose one of error, skip, zero"):
        wheel(predictions, truth, missing="ignore")
    assert wheel({}, truth, missing="zero").figures["M-avg"] == 0
    with pytest.raises(PrerequisiteError, match="nothing is left"):
        wheel({}, truth, missing="skip")


@pytest.mark.parametrize("value", [3, {"happy": 1}, ["happy", 3], True])
def test_labels_that_are_no_labels(value: Any) -> None:
    with pytest.raises(PrerequisiteError, match="the prediction of clip 'b' is "):
        wheel({"a": "happy", "b": value}, {"a": "happy", "b": "sad"})
    with pytest.raises(PrerequisiteError, match="the truth of clip 'b' is "):
        wheel({"a": "happy", "b": "sad"}, {"a": "happy", "b": value})


def test_nan_and_mixed_languages() -> None:
    predictions = {"a": float("nan"), "b": "[happy, 开心, glücklich]", "c": "happy，sad"}
    scores = wheel(predictions, {"a": "happy", "b": "joyful", "c": "sad"})
    assert scores.figures["M3-W1-L1/recall"] == pytest.approx(1 / 3)
    assert ["开心", 0, 1] in scores.unknown()
    assert any("lost 2 labels in the predictions" in note for note in scores.notes)
    friendly = wheel(predictions, {"a": "happy", "b": "joyful", "c": "sad"}, parser="friendly")
    assert friendly.figures["M3-W1-L1/recall"] == pytest.approx(2 / 3)


def test_ten_megabytes_in_one_cell(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(f'name,openset\na,"{"x" * 10_000_000}"\nb,happy\n')
    read = read_labels(tmp_path / "p.csv", OPENSET)
    scores = wheel(read.values, {"a": "happy", "b": "happy"})
    assert scores.figures["M1/recall"] == 0.5
    assert len(read.values["a"]) == 10_000_000


@pytest.mark.parametrize(
    ("metric", "prediction", "truth", "words"),
    [
        ("hit_rate", "happy", "happy, sad", "holds 2 labels"),
        ("hit_rate", "happy", "3", "indices up to 3"),
        ("sentiment", "positive", "much", "'much', which is no number"),
        ("sentiment", "positive", float("nan"), "nan, which is no number"),
        ("sentiment", "positive", None, "None, which is no number"),
        ("single_label", "glad", "happy", "prediction of clip 'a' is 'glad', none of neutral"),
        ("single_label", "happy", "glad", "truth of clip 'a' is 'glad'"),
        ("single_label", "happy", None, "truth of clip 'a' is ''"),
        ("preference", "a1", "a3", "'a3', none of a1, a2, same"),
    ],
)
def test_other_metrics(metric: str, prediction: Any, truth: Any, words: str) -> None:
    more = {"wheel_root": SHIPPED} if metric == "hit_rate" else {}
    with pytest.raises(PrerequisiteError, match=words):
        score({"a": prediction}, {"a": truth}, metric, **more)


def test_nothing_but_zeros_and_sames() -> None:
    assert set(score({"a": "positive"}, {"a": 0}, "sentiment").figures.values()) == {0.0}
    assert score({"a": ""}, {"a": "same"}, "preference").figures["two-class/WAF"] == 0.0


def test_a_missing_single_label_is_wrong() -> None:
    truth = {"a": "happy", "b": "sad"}
    assert score({"a": "happy"}, truth, "single_label", missing="zero").figures["accuracy"] == 0.5
    wrong = score({"a": "happy", "b": "glad"}, truth, "single_label", outside="wrong")
    assert wrong.figures["accuracy"] == 0.5


def test_indices_of_meld() -> None:
    figures = score({"a": "[joyful]"}, {"a": 1}, "hit_rate", index_words="meld", wheel_root=SHIPPED)
    # The shipped vocabulary knows no synonyms, so `joy` stands on wheel 4 alone.
    assert figures.figures["hit-rate/W4"] == 0.0


def test_groups_without_true_or_predicted_labels() -> None:
    replies = dict.fromkeys("abc", "[['happy', 'joyful']]")
    scores = score({"a": "happy", "b": "", "c": "happy"}, {"a": "", "b": "", "c": "joyful"},
                   "grouping", replies=replies)  # fmt: skip
    assert scores.figures["accuracy"] == pytest.approx(1 / 3)


TABLES = {
    "plain.csv": "name,openset\na,\"['happy', 'sad']\"\nb,\n",
    "bom.csv": "\ufeffname,openset\r\na,\"['happy', 'sad']\"\r\nb,nan\r\n",
    "other_names.csv": "filename,my labels\na,\"['happy', 'sad']\"\nb,None\n",
    "more_columns.csv": "split,labels,name\ntest,\"['happy', 'sad']\",a\ntest,NULL,b\n",
    "blank_lines.csv": "name,openset\n\na,\"['happy', 'sad']\"\n\nb,\n",
    "repeated.csv": "name,openset\na,\"['happy', 'sad']\"\nb,\nb,N/A\n",
    "tabs.tsv": "name\topenset\na\t['happy', 'sad']\nb\t\n",
    "tabs.txt": "name\topenset\na\t['happy', 'sad']\nb\t\n",
    "lines.jsonl": '{"name": "a", "labels": ["happy", "sad"]}\n\n{"name": "b", "labels": []}\n',
    "object.json": '{"a": ["happy", "sad"], "b": null}',
    "list.json": '[{"name": "a", "openset": "happy, sad"}, {"name": "b", "openset": NaN}]',
}


@pytest.mark.parametrize("name", TABLES)
def test_files_in_many_shapes(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(TABLES[name], encoding="utf-8")
    read = read_labels(path, OPENSET)
    scores = wheel(read.values, {"a": ["happy", "sad"], "b": ["mad"]})
    assert scores.figures["M1/recall"] == 0.5
    assert len(read.notes) == (name == "repeated.csv")


def test_arrays_of_the_authors(tmp_path: Path) -> None:
    path = tmp_path / "run-openset.npz"
    np.savez_compressed(path, filenames=["a", "b"], fileitems=["[happy, sad]", "[]"])
    assert read_labels(path, OPENSET).values == {"a": "[happy, sad]", "b": "[]"}


def test_pickled_texts_are_read_without_running_code(tmp_path: Path) -> None:
    path = tmp_path / "results-run.npz"
    np.savez_compressed(path, name2reason=np.array({"a": "He is happy."}, dtype=object))
    read = read_labels(path, OPENSET)
    assert read.values == {"a": "He is happy."}
    assert "name2reason" in read.notes[0]


BROKEN = {
    "empty.csv": ("", "is empty"),
    "header.csv": ("name,openset\n", "holds no clips"),
    "differs.csv": ("name,openset\na,happy\na,sad\n", "says two things of clip 'a'"),
    "columns.csv": ("name,x,y\na,b,c\n", "cannot be told from its header"),
    "nameless.csv": ("x,openset,y\na,b,c\n", "which column .* holds the clips' names"),
    "double.csv": ("name,openset,openset\na,b,c\n", "two columns of one name"),
    "unquoted.csv": ("name,openset\na,happy,sad\n", "line 2: 3 cells where the header has 2"),
    "open.csv": ('name,openset\na,"happy\n', "line 2: unexpected end of data"),
    "unnamed.csv": ("name,openset\n,happy\n", "a row without a name"),
    "torn.jsonl": ('{"name": "a", "labels": []}\n{"name": ', "line 2 is no JSON"),
    "list.jsonl": ("[1]\n", "line 1 is no JSON object"),
    "keys.jsonl": ('{"name": "a", "labels": []}\n{"name": "b"}\n', "a row without 'labels'"),
    "deep.json": ("[" * 100_000, "is no JSON"),
    "number.json": ("3", "neither a JSON object nor a list"),
    "nothing.json": ("{}", "holds no clips"),
    "text.npz": ("happy", "is no npz file"),
    "labels.xlsx": ("happy", "is of no kind that can be read"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    text, words = BROKEN[name]
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PrerequisiteError, match=words) as caught:
        read_labels(path, OPENSET)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_more_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="there is no file"):
        read_labels(tmp_path / "absent.csv", OPENSET)
    with pytest.raises(PrerequisiteError, match="is no run folder"):
        read_labels(tmp_path, OPENSET)
    (tmp_path / "latin.csv").write_bytes("name,openset\na,ärgerlich\n".encode("latin-1"))
    with pytest.raises(PrerequisiteError, match="is not UTF-8"):
        read_labels(tmp_path / "latin.csv", OPENSET)
    np.savez(tmp_path / "other.npz", x=[1])
    with pytest.raises(PrerequisiteError, match="holds x, but neither"):
        read_labels(tmp_path / "other.npz", OPENSET)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:-30])
    with pytest.raises(PrerequisiteError, match="is no npz file"):
        read_labels(tmp_path / "cut.npz", OPENSET)
    (tmp_path / "plain.csv").write_text("name,openset\na,happy\n")
    with pytest.raises(PrerequisiteError, match="has no column 'emo'"):
        read_labels(tmp_path / "plain.csv", Columns(("openset",), value="emo"))


def test_run_folders(tmp_path: Path) -> None:
    """A failed clip is no prediction; without predictions.csv the last label of a clip holds."""
    lines = [
        {"name": "a", "labels": ["sad"], "raw": "", "key": "1"},
        {"name": "a", "labels": ["happy"], "raw": "", "key": "2"},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "labels.jsonl").write_text(text)
    unfinished = read_labels(tmp_path, OPENSET)
    assert unfinished.values == {"a": ["happy"]}
    assert "unfinished" in unfinished.notes[0]
    table = (
        "name,status,openset,description,error\na,ok,[happy],x,\nb,crashed,,,why\nc,empty,[],,\n"
    )
    (tmp_path / "predictions.csv").write_text(table)
    finished = read_labels(tmp_path, OPENSET)
    assert finished.values == {"a": "[happy]", "c": "[]"}
    assert "1 of 3 clips" in finished.notes[0]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("r.json", b"[]", "holds no clips"),
        ("r.json", b'{"a": null}', "holds no replies"),
        ("r.jsonl", b'{"name": "a", "x": 1, "y": 2}\n', "cannot be told"),
        ("r.zip", b"no zip", "cannot be read"),
        ("absent.zip", None, "cannot be read"),
        ("absent.json", None, "there is no file or folder"),
    ],
)
def test_recorded_groups_that_cannot_be_read(
    name: str, content: bytes | None, words: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PrerequisiteError, match=words):
        score({"a": "happy"}, {"a": "sad"}, "grouping", replies=str(tmp_path / name))


def test_recorded_groups_in_four_shapes(tmp_path: Path) -> None:
    import zipfile

    reply = "[['happy', 'joyful']]"
    np.save(tmp_path / "a.npy", reply)
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as archive:
        archive.write(tmp_path / "a.npy", "openset-synonym/a.npy")
    (tmp_path / "r.json").write_text(json.dumps({"a": reply}))
    (tmp_path / "r.jsonl").write_text(json.dumps({"name": "a", "reply": reply}) + "\n")
    for source in (tmp_path, tmp_path / "r.zip", tmp_path / "r.json", tmp_path / "r.jsonl"):
        figures = score({"a": "happy"}, {"a": "joyful"}, "grouping", replies=str(source)).figures
        assert figures["avg"] == 1.0
    np.save(tmp_path / "b.npy", np.array({"x": 1}, dtype=object))
    with pytest.raises(PrerequisiteError, match="cannot be read"):
        score({"a": "happy"}, {"a": "joyful"}, "grouping", replies=str(tmp_path))


def test_a_row_that_names_no_model_of_its_groups_is_no_model_called_none(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("name,reply,grouped_by\na,\"[['happy', 'glad']]\",mini\nb,[],\n")
    truth = {"a": "happy", "b": "sad"}
    assert score(truth, truth, "grouping", replies=path).conditions["grouped_by"] == "mini"


def test_zero_width_characters_are_no_part_of_a_label() -> None:
    predictions = {"a": "\ufeffhappy", "b": ["sa\u200bd", "\u200b"], "c": "[\u2060angry]"}
    truth = {"a": "happy", "b": "sad", "c": "angry\ufeff"}
    scores = wheel(predictions, truth)
    assert scores.figures["M1"] == 1.0
    assert any("removed from 3 cells of the predictions" in note for note in scores.notes)
    assert any("removed from 1 cells of the truth" in note for note in scores.notes)
    assert score({"a": "\u200bhappy"}, {"a": "happy"}, "single_label").figures["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.json", '{"a": "happy", "a": "sad"}'),
        ("r.json", '[{"name": "a", "openset": "happy", "openset": "sad"}]'),
        ("r.jsonl", '{"name": "a", "openset": "happy", "openset": "sad"}\n'),
    ],
)
def test_a_repeated_key_is_refused_as_in_a_csv(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(PrerequisiteError, match=r"says two things of .*'happy' and 'sad'"):
        read_labels(tmp_path / name, OPENSET)


def test_a_clip_may_be_called_na(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("name,openset\nNA,happy\nnull,NA\n")
    assert read_labels(tmp_path / "p.csv", OPENSET).values == {"NA": "happy", "null": None}
