"""The papers' tables: whose figure stands where, what is said of it, and what the files hold."""

import csv
import io
import json
import math
import subprocess
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from statistics import mean, stdev

import pytest
from scipy.stats import t, ttest_1samp

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.commands.tables import write
from ovmer.runners.config import CONF
from ovmer.runners.papers.layout import layout_names, read_layout
from ovmer.runners.papers.render import latex, markdown, plain, tidy
from ovmer.runners.papers.results import read_results
from tests.runners.folders import write_run, write_unibench
from tests.runners.tables import WHEEL, cell, table_of, why


@pytest.mark.parametrize("name", layout_names())
def test_every_layout_finds_the_printed_figures_that_it_names(name: str) -> None:
    layout = read_layout(name)
    named = {column.published for column in layout.columns if column.published}
    for pair in named:
        assert any(key[2:] == pair for key in layout.figures), pair
    shown = {
        (row.model, row.inputs, *(column.published or ("", "")))
        for row in layout.rows
        for column in layout.columns
    }
    assert len(shown & set(layout.figures)) >= 2
    assert all(each.source for each in layout.figures.values())
    known = {path.stem for path in (CONF / "baseline").glob("*.yaml")} | {"mer2024_example"}
    for row in layout.rows:
        assert all(part in known for part in (row.baseline or "empty").split("+")), row
        assert all(note in layout.row_notes for note in row.notes)
        assert row.task is None or (CONF / "task" / f"{row.task}.yaml").is_file()
    data_sets = {path.stem for path in (CONF / "dataset").glob("*.yaml")} | {"emer"}
    assert {column.dataset for column in layout.columns} - {None} <= data_sets
    assert set(layout.plot) <= {column.title for column in layout.columns}


def test_a_folder_that_cannot_be_read_is_left_out(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(outputs, "salmonn", "ovmerd", WHEEL)
    (outputs / "ovmerd" / "torn").mkdir()
    (outputs / "ovmerd" / "torn" / "run.json").write_text('{"settings": {"base', "utf-8")
    (result,) = read_results([outputs])
    assert result.info.baseline == "salmonn"
    assert "left out: " in (said := capsys.readouterr().err)
    assert "torn/run.json is no JSON" in said


def test_all_printed_rows_of_the_two_large_tables_have_a_cell() -> None:
    for name, rows in (("mer_unibench", 19), ("ovmer", 12)):
        layout = read_layout(name)
        printed = {key[:2] for key in layout.figures if not key[0].startswith("(correlation")}
        assert printed == {(row.model, row.inputs) for row in layout.rows}
        assert len(layout.rows) == rows


BENCHMARKS = ("dfew", "mafw", "ravdess", "emobench_m", "mmla", "intentbench", "mme_emotion")


def test_all_printed_figures_of_the_benchmarks_have_a_cell() -> None:
    places = 0
    for name in (*BENCHMARKS, "meld_closed"):
        layout = read_layout(name)
        shown = {
            (row.model, row.inputs, *column.published)
            for row in layout.rows
            for column in layout.columns
            if column.published
        }
        sets = {key[0] for key in (c.published for c in layout.columns) if key}
        assert shown >= {key for key in layout.figures if key[2] in sets}, name
        places += len(shown & layout.figures.keys())
    path = files("ovmer.runners.papers").joinpath("published", "benchmarks.csv")
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    # The rest is MER2023-SEMI in Emotion-LLaMA's README: fine-tuned models, another test set.
    assert places == len(rows) - sum(row["dataset"] == "MER2023-SEMI" for row in rows)


def test_a_baseline_that_print_lacks_is_below(outputs: Path) -> None:
    write_run(outputs, "lexicon", "ovmerd", WHEEL, extractor={"name": "lexicon"})
    table = table_of(outputs)
    assert table.lines[-1].row.model == "lexicon"
    assert "no row of its own in print" in plain(table)
    assert why(cell(table, "lexicon")) == [], "there is no print whose protocol it could miss"


@pytest.mark.parametrize(
    ("grouped_by", "said"),
    [
        ("gpt-3.5-turbo-16k-0613", []),
        ("Qwen/Qwen2.5-7B-Instruct", ["grouped by Qwen/Qwen2.5-7B-Instruct, print's by gpt-3.5"]),
        (
            "miniature",
            ["dry run on a random miniature", "grouped by miniature, print's by gpt-3.5"],
        ),
    ],
)
def test_a_cell_names_the_model_that_grouped(outputs: Path, grouped_by, said) -> None:
    more = {"subtitle": "merge", "grouped_by": grouped_by}
    write_run(outputs, "otter", "ovmerd", {"F": 0.4}, "grouping", **more)
    found = cell(table_of(outputs), "Otter", "GPT")
    assert len(why(found)) == len(said)
    assert all(text.startswith(each) for text, each in zip(why(found), said, strict=True))
    assert (found.difference is None) == bool(said)


def test_a_combination_has_the_row_of_its_parts(outputs: Path) -> None:
    folder = write_run(outputs, "combined", "ovmerd", WHEEL, subtitle="merge")
    told = json.loads((folder / "run.json").read_text("utf-8"))
    told["identity"]["sources"] = ["ovmerd/secap", "ovmerd/mplug_owl-apart"]
    (folder / "run.json").write_text(json.dumps(told), "utf-8")
    found = cell(table_of(outputs, "ovmer_clues"), "SECap + mPLUG-Owl")
    assert found.ours == pytest.approx(47.22)


def test_the_mean_is_that_of_nine_and_narrower_than_they(outputs: Path) -> None:
    write_unibench(outputs, ["otter"])
    table = table_of(outputs, "mer_unibench")
    mean = cell(table, "Otter", "Mean")
    assert mean.ours == pytest.approx(50)
    assert mean.interval == pytest.approx((49, 51))  # 3 / sqrt(9) to each side
    assert mean.difference == pytest.approx(50 - 34.82)
    assert why(cell(table, "SALMONN", "Mean")) == []


def test_a_half_finished_sweep_has_no_mean(outputs: Path) -> None:
    write_run(outputs, "otter", "meld", {"hit-rate": 0.2}, "hit_rate", clips=2610)
    table = table_of(outputs, "mer_unibench")
    assert cell(table, "Otter", "MELD").difference == pytest.approx(20 - 22.57)
    assert cell(table, "Otter", "Mean").ours is None
    assert why(cell(table, "Otter", "Mean")) == ["1 of 9 data sets"]


def test_inputs_tell_rows_of_one_model_apart(outputs: Path) -> None:
    write_run(outputs, "pandagpt_video", "meld", {"hit-rate": 0.4}, "hit_rate", clips=2610)
    table = table_of(outputs, "mer_unibench")
    shown = {inputs: cell(table, "PandaGPT", "MELD", inputs) for inputs in ("AT", "VT", "VAT")}
    assert {inputs: found.ours for inputs, found in shown.items()} == {
        "AT": None,
        "VT": pytest.approx(40),
        "VAT": None,
    }
    assert [each.published.text for each in shown.values() if each.published] == [
        "31.91",
        "38.33",
        "37.88",
    ]


def test_what_a_reader_must_know_is_below(outputs: Path) -> None:
    write_run(outputs, "affectgpt", "meld", {"hit-rate": 0.5}, "hit_rate", clips=2610)
    text = plain(table_of(outputs, "mer_unibench"))
    for said in ("best of seven checkpoints", "trained on MER-Caption+", "one step", "2025"):
        assert said in text
    assert "two steps" in plain(table_of(outputs, "ovmer"))


def test_the_files_hold_the_same_table(outputs: Path, tmp_path: Path) -> None:
    write_run(outputs, "chat_univi", "ovmerd", WHEEL, subtitle="merge")
    table = table_of(outputs)
    rows = list(csv.DictReader(io.StringIO(tidy(table))))
    (row,) = (r for r in rows if (r["model"], r["column"]) == ("Chat-UniVi", "M-avg"))
    assert (float(row["ours"]), row["published"]) == (pytest.approx(47.22), "46.75")
    assert float(row["difference"]) == pytest.approx(0.47)
    assert len(rows) == 12 * 14
    lines = markdown(table).splitlines()
    body = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in body}) == 1
    assert any("47.22" in line for line in body)
    assert any("+0.47" in line for line in body)
    tex = latex(table)
    (columns,) = {r.count(" & ") for r in tex.splitlines() if r.endswith("\\\\")}
    assert columns == 17
    for word in ("\\toprule", "\\midrule", "\\bottomrule", "95 \\% interval over clips"):
        assert word in tex
    assert "\\item{} [low, high]" in tex, "no label of the item"
    paths = write(table, tmp_path / "t", ["md", "tex", "csv", "png"])
    assert paths[-1].read_bytes().startswith(b"\x89PNG")


def test_a_lonely_folder_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="no run folders there"):
        read_results([tmp_path])
    with pytest.raises(PrerequisiteError, match="there is no folder"):
        read_results([tmp_path / "gone"])


Command = Callable[..., subprocess.CompletedProcess[str]]


def test_the_command_from_imported_predictions_to_the_table(
    command: Command, tmp_path: Path
) -> None:
    """Others' predictions are scored, kept, and stand in the table like a run."""
    (tmp_path / "truth.csv").write_text("name,openset\na,happy\nb,sad\n", "utf-8")
    (tmp_path / "pred.csv").write_text("name,openset\na,joyful\nb,sad\n", "utf-8")
    told = ["record.baseline=otter", "record.dataset=ovmerd", "record.subtitle=merge"]
    done = command("score", "predictions=pred.csv", "truth=truth.csv", *told)
    assert done.returncode == 0, done.stderr
    assert "outputs/ovmerd/otter-imported" in done.stdout
    done = command("tables", "outputs", "layout=ovmer")
    assert done.returncode == 0, done.stderr
    assert "imported predictions" in done.stdout
    assert "2 clips, not the whole data set" in done.stdout
    for ending in ("md", "tex", "csv", "png"):
        assert (tmp_path / "tables" / f"ovmer.{ending}").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["outputs"], "say layout= and one of dfew, "),
        (["outputs", "layout=ovmr"], "there is no layout=ovmr; did you mean ovmer"),
        (["outputs", "layot=ovmer"], "there is no key layot; did you mean layout"),
        (["gone", "layout=ovmer"], "there is no folder gone"),
    ],
)
def test_a_mistake_is_one_sentence(command, tmp_path, arguments, sentence) -> None:
    (tmp_path / "outputs").mkdir()
    done = command("tables", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(sentence)


def with_readings(folder: Path, figure: str, *figures: float) -> None:
    """Make a run's scores those of several readings."""
    path = folder / "scores.json"
    told = json.loads(path.read_text("utf-8"))
    (entry,) = told.values()
    entry["figures"][figure] = mean(figures)
    entry["repeats"] = [{figure: each} for each in figures]
    entry["spread"] = {figure: stdev(figures)}
    path.write_text(json.dumps(told), "utf-8")


def test_a_difference_has_the_noise_of_both_sides(outputs: Path) -> None:
    """Welch by hand: s of three readings, and print's deviation of two runs."""
    folder = write_run(outputs, "chat_univi", "ovmerd", WHEEL, subtitle="merge")
    assert cell(table_of(outputs), "Chat-UniVi", "M1").noise is None
    assert "n. k." in plain(table_of(outputs))
    with_readings(folder, "M1", 0.280, 0.282, 0.287)
    found = cell(table_of(outputs), "Chat-UniVi", "M1")
    assert found.published is not None
    assert found.published.std is not None
    ours, theirs = stdev([28.0, 28.2, 28.7]) ** 2 / 3, found.published.std**2 / 2
    df = (ours + theirs) ** 2 / (ours**2 / 2 + theirs**2)
    assert found.spread == pytest.approx(stdev([28.0, 28.2, 28.7]))
    assert found.noise == pytest.approx(t.ppf(0.975, df) * math.sqrt(ours + theirs))
    assert f"±{found.noise:.2f}" in plain(table_of(outputs))
    assert f"±{found.published.std:.2f}" in plain(table_of(outputs))


def test_an_offset_of_all_rows_shows_below_the_column(outputs: Path) -> None:
    """Each row differs by less than its interval, and all of them by half a point."""
    names = {"chat_univi": 46.75, "otter": 39.41, "qwen_audio": 31.84, "salmonn": 43.53}
    away = [0.4, 0.5, 0.6, 0.5]
    for (name, printed), more in zip(names.items(), away, strict=True):
        write_run(outputs, name, "ovmerd", {"M-avg": (printed + more) / 100}, subtitle="merge")
    table = table_of(outputs)
    found = table.summaries[-1]
    assert found is not None
    assert (found.rows, found.mean) == (4, pytest.approx(0.5))
    assert found.rms == pytest.approx(math.sqrt(mean(each**2 for each in away)))
    assert found.p == pytest.approx(ttest_1samp(away, 0).pvalue)
    assert found.half == pytest.approx(t.ppf(0.975, 3) * stdev(away) / 2)
    assert "all rows: ours less print" in plain(table)
    lines = [line for line in markdown(table).splitlines() if line.startswith("|")]
    header, *rows = ([cell.strip() for cell in line.split("|")] for line in lines)
    (means,) = (row for row in rows if "mean" in row)
    assert means[header.index("M-avg")] == "+0.50"
    assert table.summaries[0] is None


def test_old_scores_of_several_readings_have_no_interval(outputs: Path) -> None:
    """Two deviations to each side were no interval over clips."""
    folder = write_run(outputs, "chat_univi", "ovmerd", WHEEL, subtitle="merge")
    with_readings(folder, "M-avg", 0.470, 0.472, 0.477)
    path = folder / "scores.json"
    told = json.loads(path.read_text("utf-8"))
    next(iter(told.values()))["intervals"] = {}
    path.write_text(json.dumps(told), "utf-8")
    assert cell(table_of(outputs), "Chat-UniVi").interval is None
