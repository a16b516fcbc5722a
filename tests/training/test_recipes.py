"""The shipped recipes, and the settings that docs/training.md names."""

import random
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.training.evaluation import Evaluation, random_state_kept, table
from ovmer.runners.training.run import TrainingRun
from ovmer.runners.training.settings import compose_train

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
ABLATIONS = [
    setting
    for row in PAGE.split("| in print | settings |")[1].split("Not possible")[0].splitlines()
    for setting in re.findall(r"`([a-z_.]+=[^`]+)`", row)
]


COMMANDS = re.findall(r"ovmer\)? train (.+?)(?:  +#.*)?$", PAGE.replace("\\\n", " "), flags=re.M)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_page_are_settings(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text("video,openset\na.mp4,happy\n", encoding="utf-8")
    (tmp_path / "a.mp4").touch()
    words = [word for word in shlex.split(command) if word not in ("train", "ovmer")]
    assert TrainingRun(compose_train(words), words).folder.parent == Path("outputs/train")


@pytest.mark.parametrize(
    ("recipe", "data", "visual", "steps", "epoch"),
    [
        ("affectgpt", "mercaptionplus", "face", 300_000, 5000),
        ("affectgpt_frame", "mercaptionplus", "frame", 300_000, 5000),
        ("affectgpt_ovmerd", "ovmerd", "face", 30_000, 500),
        ("affectgpt_ovmerd_frame", "ovmerd", "frame", 30_000, 500),
    ],
)
def test_released_runs(recipe, data, visual, steps, epoch):
    settings = compose_train([f"recipe={recipe}"])
    train = settings.train
    assert (settings.dataset["name"], settings.dataset["visual"]) == (data, visual)
    assert (train.steps, train.epoch, train.rate.warmup_steps) == (steps, epoch, epoch)
    assert train.template == f"multi{visual}_audio_{visual}_text"
    assert settings.baseline["release"].endswith(f"{visual}_lz")
    assert train.rate.init == train.rate.min == 1e-5
    assert (train.batch_size, train.clip, train.weight_decay) == (3, 0, 0.05)


def test_ablations_of_the_page_are_settings():
    assert len(ABLATIONS) >= 10
    for setting in ABLATIONS:
        own = "recipe=" in setting
        compose_train([*([] if own else ["recipe=affectgpt"]), *setting.split()])


@pytest.mark.parametrize(
    ("recipe", "part", "repo"),
    [
        ("affectgpt_dinov2", "clip", "facebook/dinov2-large"),
        ("affectgpt_siglip", "clip", "google/siglip-so400m-patch14-384"),
        ("affectgpt_wavlm", "hubert", "microsoft/wavlm-large"),
        ("affectgpt_data2vec", "hubert", "facebook/data2vec-audio-base-960h"),
        ("affectgpt_eva", "clip", None),  # LAVIS' own page
        ("affectgpt_imagebind", "hubert", "DAMO-NLP-SG/Video-LLaMA-2-7B-Finetuned"),
        ("affectgpt_llama3", "llm", "meta-llama/Meta-Llama-3-8B-Instruct"),
    ],
)
def test_an_ablation_changes_one_part_of_the_papers_run(recipe, part, repo):
    settings, papers = compose_train([f"recipe={recipe}"]), compose_train(["recipe=affectgpt"])
    parts, released = settings.baseline["checkpoint"], papers.baseline["checkpoint"]
    assert parts[part]["repo"] == repo
    assert {name for name in parts if parts[name] != released[name]} == {part}
    assert replace(settings.train, name="affectgpt") == papers.train


def test_a_data_set_of_the_command_line_replaces_the_recipes():
    settings = compose_train(["recipe=affectgpt", "dataset=ovmerd"])
    assert settings.dataset["name"] == "ovmerd"


def test_a_mixture_reads_its_data_sets_by_name(tmp_path):
    given = ["recipe=affectgpt_frame", "+train.mixture={sample: 2}", f"outputs={tmp_path}"]
    run = TrainingRun(compose_train(given), given)
    (examples,), shares = run.examples()
    assert len(examples) == 10
    assert shares == [2.0]
    assert run.folder.name.startswith("affectgpt_frame-sample")


def test_table_names_three_ways_to_choose():
    figures = {
        "dev": {"checkpoint-0": 0.1, "checkpoint-20": 0.6, "checkpoint-100": 0.5},
        "test": {"checkpoint-0": 0.7, "checkpoint-20": 0.3, "checkpoint-100": 0.4},
    }
    text = table(figures, "dev", ["test"])
    header, _, row = text.splitlines()[:3]
    cells = [cell.strip() for cell in header.strip("|").split("|")]
    assert cells == ["data set", "last", "best on validation", "best on the test set"]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == [
        "test",
        "40.00 (checkpoint-100)",
        "30.00 (checkpoint-20)",
        "70.00 (checkpoint-0)",
    ]
    assert "| checkpoint-20  | 60.00 | 30.00  |" in text
    assert "no validation set" in table(figures, None, ["test"])


def test_what_validation_draws_changes_no_training():
    def draw() -> tuple[float, float, float]:
        return random.random(), np.random.rand(), torch.rand(1).item()

    with random_state_kept():
        drawn = draw()
    assert draw() == drawn


class Trained:
    """Checkpoints that all say the same, by the scripted baseline."""

    visual = "frame"

    def baseline(self, checkpoint: Path) -> dict[str, object]:
        return {"defaults": ["scripted", "_self_"], "name": checkpoint.name}


def test_figures_are_those_of_the_settings_that_were_asked_for(tmp_path):
    """Not those of another extractor or of groups, which scores.json may hold as well."""
    given = ["recipe=lora", "baseline=salmonn", "train.validation.dataset=sample"]
    settings = compose_train([*given, "train.validation.sets=['limit=1']"])
    (tmp_path / "checkpoint-1").mkdir()
    evaluation = Evaluation(settings, Trained(), tmp_path)
    first = evaluation.finish([tmp_path / "checkpoint-1"])
    (folder,) = map(RunFolder, tmp_path.glob("scores/sample/*"))
    (entry,) = folder.read_scores().values()
    folder.write_scores([entry, replace(entry, extraction="other", figures={entry.primary: 0.0})])
    (tmp_path / "figures.json").unlink()
    assert evaluation.finish([tmp_path / "checkpoint-1"]) == first
