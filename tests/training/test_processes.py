"""Two processes train as one with twice the batch does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import SAMPLE
from tests.training.conftest import train

CLIPS = ("broken_promise", "farewell", "good_news", "late_night", "plain_answer", "second_thoughts")
SETTINGS = (
    "recipe=affectgpt_frame",
    "dry_run=true",
    "machine.device=cpu",
    "train.kinds=[ovlabel]",  # one answer for all, so that each process learns as many tokens
    "train.loudness=clip",
    "train.encoders=eval",
    "train.lora.dropout=0",
    "train.rate.init=1e-3",
    "train.rate.min=1e-3",
    "train.steps=6",
    "train.report_to=[]",
)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("checkpoint-6/checkpoint_*.pth")
    found: dict[str, torch.Tensor] = torch.load(file, weights_only=True)["model"]
    return found


@pytest.mark.by_hand
@pytest.mark.timeout(600)
def test_two_processes_of_three_equal_one_of_six(tmp_path: Path) -> None:
    rows = [f"{SAMPLE}/video/{n}.mp4,{SAMPLE}/audio/{n}.wav,He is gone.,[happy]" for n in CLIPS]
    table = tmp_path / "mine.csv"
    table.write_text("\n".join(["video,audio,subtitle,openset", *rows]), encoding="utf-8")
    common = (*SETTINGS, f"clips={table}", f"outputs={tmp_path}")
    one = train(*common, "train.batch_size=6", "variant=one").folder
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    words = ["-m", "ovmer", "train", *common, "train.batch_size=3", "variant=two"]
    subprocess.run([*launch, *words], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    ours, theirs = weights(Path(str(one).replace("-one", "-two"))), weights(one)
    # Sums in another order, in float32, after six steps at a rate of 1e-3.
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < 1e-6
