"""The authors' released outputs, imported, give the figures that are known of them.

The files belong to their data sets and are not shipped: they are read beside the repository.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from ovmer.runners.folder.exchange import read_labels
from ovmer.runners.folder.imported import Origin, RecordSettings, record
from ovmer.runners.papers.layout import read_layout
from ovmer.runners.papers.results import read_results
from ovmer.runners.papers.table import make_table
from ovmer.runners.scoring import make_metric, metric_settings
from ovmer.runners.scoring.label_files import Columns

SHARED = Path(__file__).parents[3] / "shared"
REPLAY = SHARED / "golden" / "scorer" / "replay.json"

pytestmark = pytest.mark.skipif(
    not REPLAY.is_file(), reason=f"the authors' released outputs are not at {REPLAY}"
)

# M-avg of the released two-step runs, and what the OV-MER table prints.
KNOWN = {
    "Chat-UniVi": (47.22, 46.75),
    "LLaMA-VID": (45.01, 45.81),
    "Otter": (39.73, 39.41),
    "Qwen-Audio": (32.60, 31.84),
    "SALMONN": (43.65, 43.53),
    "Video-ChatGPT": (46.80, 46.02),
    "Video-LLaVA": (43.53, 43.27),
    "VideoChat": (38.21, 37.58),
    "VideoChat2": (43.23, 42.65),
    "mPLUG-Owl": (46.15, 45.63),
}


@pytest.fixture(scope="module")
def replay() -> dict[str, Any]:
    return json.loads(REPLAY.read_text("utf-8"))


def keep(outputs: Path, baseline: str, dataset: str, scores: Any, subtitle: str | None) -> None:
    settings = RecordSettings(
        baseline, dataset=dataset, subtitle=subtitle, extractor="qwen25", outputs=str(outputs)
    )
    record(settings, scores, Origin("replay.json", "replay.json"))


def test_the_ten_released_runs_are_beside_print(replay, tmp_path: Path) -> None:
    wheel_root = {"wheel_root": str(SHARED / "emotion_wheel")}
    metric = make_metric(metric_settings("wheel") | wheel_root)
    layout = read_layout("ovmer")
    baselines = {row.model: row.baseline for row in layout.rows}
    for key, run in replay["ovmerd"]["predictions"].items():
        scores = metric.score(run["name2pred"], replay["ovmerd"]["name2gt"]).with_intervals(200)
        keep(tmp_path, baselines[key.partition("|")[0]], "ovmerd", scores, "merge")
    table = make_table(layout, read_results([tmp_path]))
    shown = {
        line.row.model: line.cells[-1] for line in table.lines if line.cells[-1].ours is not None
    }
    assert {
        model: (round(cell.ours, 2), cell.published.value) for model, cell in shown.items()
    } == KNOWN
    assert all(abs(cell.difference) <= 0.81 for cell in shown.values())
    assert all(
        cell.interval[0] < cell.published.value < cell.interval[1] for cell in shown.values()
    )


def test_the_example_of_mer2024_agrees_to_the_last_digit(tmp_path: Path) -> None:
    folder = SHARED / "mer2024_ov"
    replies = {
        "replies": str(folder / "openset-synonym.zip"),
        "grouped_by": "gpt-3.5-turbo-16k-0613",
    }
    metric = make_metric(metric_settings("grouping") | replies)
    truth, predicted = (
        read_labels(folder / f"{name}-openset.csv", Columns(("openset",))).values
        for name in ("check", "predict")
    )
    keep(tmp_path, "mer2024_example", "ovmerd", metric.score(predicted, truth), None)
    table = make_table(read_layout("mer2024_ov"), read_results([tmp_path]))
    cells = table.lines[0].cells
    assert [cell.ours for cell in cells] == pytest.approx(
        [58.1777108433735, 49.77911646586345, 53.97841365461847], abs=1e-12
    )
    assert [cell.difference for cell in cells] == pytest.approx([0, 0, 0], abs=1e-12)


def test_affectgpts_released_outputs_give_its_printed_figures(replay, tmp_path: Path) -> None:
    """MELD and MOSI at the checkpoint that print chose."""
    wheel_root = {"wheel_root": str(SHARED / "emotion_wheel")}
    hit_rate = make_metric(metric_settings("hit_rate") | wheel_root)
    (run,) = replay["meld"]["checkpoints"].values()
    keep(
        tmp_path,
        "affectgpt",
        "meld",
        hit_rate.score(run["name2pred"], replay["meld"]["name2gt"]),
        "prompt",
    )
    (run,) = replay["cmumosi"]["checkpoints"].values()
    scores = make_metric(metric_settings("sentiment")).score(
        run["name2sentiment"], replay["cmumosi"]["name2gt"]
    )
    keep(tmp_path, "affectgpt", "cmumosi", scores, "prompt")
    table = make_table(read_layout("mer_unibench"), read_results([tmp_path]))
    cells = {cell.column.title: cell for cell in table.lines[-1].cells}
    for title in ("MELD", "CMU-MOSI"):
        assert round(cells[title].ours, 2) == cells[title].published.value
