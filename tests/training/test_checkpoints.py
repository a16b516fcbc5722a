"""Checkpoints appear whole or not at all, and a full disk is said to be full."""

import errno

import pytest
import torch

from ovmer.baselines.training.trainer import (
    Stopped,
    checkpoints,
    forget_states,
    last_checkpoint,
    written_whole,
)


def save(folder, step):
    with written_whole(folder, step) as made:
        (made / "checkpoint_000001_loss_0.000.pth").write_bytes(b"w" * 10)
        (made / "optimizer.pt").write_bytes(b"o")
        (made / "trainer_state.json").write_text("{}")


def test_of_older_checkpoints_the_weights_stay(tmp_path):
    save(tmp_path, 2)
    save(tmp_path, 10)
    assert len(list(tmp_path.glob("*/optimizer.pt"))) == 2  # until a finite loss came
    forget_states(tmp_path, 10)
    assert [each.name for each in checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-10"]
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert [each.name for each in (tmp_path / "checkpoint-2").iterdir()] == [
        "checkpoint_000001_loss_0.000.pth"
    ]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:783] . PytorchStreamWriter failed "
                     "writing file data/0: file write failed"),
    ],
)  # fmt: skip
def test_a_full_disk_keeps_what_was_there(tmp_path, error):
    save(tmp_path, 2)
    with pytest.raises(Stopped, match=r"disk of .* is full.*checkpoint-2 is kept; make room"):
        fail(tmp_path, error)
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint-2"]


def fail(folder, error):
    with written_whole(folder, 4) as made:
        (made / "half.pth").write_bytes(b"w")
        raise error


def test_torch_says_of_a_full_disk_what_we_look_for(tmp_path):
    def write():
        with written_whole(tmp_path, 4):
            torch.save(torch.zeros(1_000_000), "/dev/full")

    with pytest.raises(Stopped, match="no checkpoint is kept"):
        write()


def test_another_error_is_left_as_it_is(tmp_path):
    with pytest.raises(KeyError):
        fail(tmp_path, KeyError("x"))
    assert list(tmp_path.iterdir()) == []
