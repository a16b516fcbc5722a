"""A miniature learns the sample by heart: through export, sweep and scorer it gives its labels."""

import csv

import pytest

from ovmer.runners.folder.exchange import read_labels
from ovmer.runners.scoring.label_files import Columns
from ovmer.runners.scoring.parsing import string_to_list
from tests import SAMPLE, processes
from tests.training.conftest import train

SETTINGS = (
    "recipe=affectgpt_frame",
    "dry_run=true",
    "train.steps=300",
    "train.epoch=150",
    "train.batch_size=4",
    "train.kinds=[ovlabel]",
    "train.rate.schedule=cosine",
    "train.rate.init=6e-3",
    "train.rate.warmup_steps=10",
    "train.features=cached",
    "train.report_to=[]",
    "variant=overfit",
)


@pytest.mark.by_hand
@pytest.mark.timeout(900)
def test_the_sample_is_learned_by_heart(tmp_path):
    run = train(*SETTINGS, f"outputs={tmp_path / 'outputs'}")
    with (run.folder / "curve.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses[0] > 2
    assert losses[-1] < 0.1
    sweep = "baseline=trained", "dataset=sample", "generation=greedy"
    done = processes.run(["sweep", "--config-dir", str(run.folder), *sweep], tmp_path)
    assert done.returncode == 0, done.stderr
    (swept,) = tmp_path.glob("outputs/sample/*_step300-greedy")
    told = read_labels(swept, Columns(("openset",)))
    truth = read_labels(SAMPLE / "track2_train_ovmerd.csv", Columns(("openset",)))
    asked = [name for name in truth.values if name not in ("silent_smile", "phone_call")]
    assert len(asked) == 8
    for name in asked:
        assert string_to_list(told.values[name]) == string_to_list(truth.values[name]), name
