"""`ovmer train` as a user runs it: a dry run, killed and resumed, wrong settings, bad data."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.training.conftest import ovmer

RUN = Path("outputs/train/affectgpt-sample-dry")
DRY = ("train", "recipe=affectgpt", "dry_run=true")


def weights(folder: Path) -> dict[str, bytes]:
    """The checkpoints of a run, byte by byte."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.glob("checkpoint-*/checkpoint_*.pth"))
    }


def test_dry_run_leaves_checkpoints_a_curve_and_its_settings(dry_run):
    folder = dry_run / RUN
    assert [name.partition("_loss_")[0] for name in weights(folder)] == [
        "checkpoint-0/checkpoint_000000",
        "checkpoint-12/checkpoint_000003",
        "checkpoint-4/checkpoint_000001",
        "checkpoint-8/checkpoint_000002",
    ]
    curve = (folder / "curve.csv").read_text().splitlines()
    assert len(curve) == 1 + 12
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    about = json.loads((folder / "train.json").read_text())
    assert about["identity"]["train.encoders"] == "train"
    assert about["problem"] is None
    lines = (folder / "not_trained_on.jsonl").read_text().splitlines()
    left_out = [json.loads(line) for line in lines]
    assert {"name": "silent_smile", "reason": "no face"} in left_out
    # What resuming needs is kept of the last checkpoint alone.
    assert [file.parent.name for file in folder.glob("*/optimizer.pt")] == ["checkpoint-12"]


def test_files_hold_weights_alone_under_the_authors_names(dry_run):
    (file,) = (dry_run / RUN).glob("checkpoint-12/checkpoint_*.pth")
    content = torch.load(file, weights_only=True)
    assert content["config"]["datasets"]["face_or_frame"] == "multiface_audio_face_text"
    names = set(content["model"])
    assert {"image_llama_proj.weight", "affectgpt_proj.bias", "fc_att.weight"} <= names
    assert not [name for name in names if "base_layer" in name]
    assert all(tensor.dtype == torch.float32 for tensor in content["model"].values())


def test_killed_and_resumed_gives_the_same_bytes(dry_run, tmp_path):
    program = "from ovmer.runners.commands import main; main()"
    folder = tmp_path / RUN
    started = subprocess.Popen(
        [sys.executable, "-c", program, *DRY],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (folder / "checkpoint-4").exists():
        assert started.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    time.sleep(0.5)  # somewhere within the steps that follow
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    assert not (folder / "checkpoint-12").exists()
    done = ovmer(*DRY, at=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "goes on from checkpoint-" in done.stderr
    assert weights(folder) == weights(dry_run / RUN)


def test_another_recipe_on_the_same_folder_is_refused(dry_run):
    (dry_run / RUN).rename(dry_run / "outputs/train/affectgpt-sample-dry-v")
    try:
        done = ovmer(*DRY, "variant=v", "train.lora.rank=8", at=dry_run)
    finally:
        (dry_run / "outputs/train/affectgpt-sample-dry-v").rename(dry_run / RUN)
    assert done.returncode == 2
    assert "train.lora.rank (16 there, 8 now)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_loss_that_is_no_number_stops_with_the_last_good_checkpoint(tmp_path):
    wild = ("train.rate.init=1e30", "train.rate.min=1e30", "train.steps=6", "train.save_every=1")
    done = ovmer(*DRY, *wild, "variant=v", at=tmp_path)
    assert done.returncode == 2
    assert "the loss is nan" in done.stderr
    assert "a rate of 1e+30 in float32" in done.stderr
    assert "lower train.rate.init" in done.stderr
    about = json.loads((tmp_path / f"{RUN}-v" / "train.json").read_text())
    assert "nan" in about["problem"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["dataset.limit=1", "train.kinds=[happy]"], "train.kinds: 'happy'"),
        (["train.loudness=bath"], "did you mean batch"),
        (["train.templte=face"], "there is no key train.templte"),
        (["train.start=nowhere.pth"], "nowhere.pth"),
        (["train.reasons.file=nowhere.csv"], "train.kinds=[ovlabel]"),
        (["train.lora.targets=[nowhere]"], "train.lora.targets"),
        (["baseline=lexicon"], "has no language model of its own"),
        (["train.step=affectgpt", "baseline=salmonn"], "trains baseline=affectgpt"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path, settings, sentence):
    done = ovmer(*DRY, *settings, at=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_checkpoint_of_another_rank_is_refused(dry_run, tmp_path):
    (start,) = (dry_run / RUN).glob("checkpoint-12/checkpoint_*.pth")
    done = ovmer(*DRY, f"train.start={start}", "train.lora.rank=4", at=tmp_path)
    assert done.returncode == 2
    assert "has shape [16, 64] where [4, 64] is trained here" in done.stderr


def test_data_for_ms_swift(tmp_path):
    done = ovmer(
        "train", "baseline=qwen2_5_omni", "dataset=sample", "train.export=swift", at=tmp_path
    )
    assert done.returncode == 0, done.stderr
    text = Path(tmp_path, done.stdout.strip()).read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    row = next(row for row in rows if "farewell" in row.get("videos", [""])[0])
    assert row["messages"][0]["content"].startswith("<video><audio>The subtitle of this video is")
    assert row["messages"][1]["content"].startswith("In the text, she says that he is gone")
    assert Path(row["videos"][0]).is_file()
    assert Path(row["audios"][0]).is_file()
