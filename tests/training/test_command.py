"""`ovmer train` as a user runs it: a dry run, killed and resumed, wrong settings, bad data."""

import json
import time
from pathlib import Path

import pytest
import torch
import yaml

from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.training.trainer import last_checkpoint
from ovmer.runners.data.reader import read_dataset
from ovmer.runners.training.run import TrainingRun
from ovmer.runners.training.settings import compose_train
from tests.processes import Started
from tests.scoring.test_commands import Inside
from tests.training.conftest import DRY, train

RUN = Path("outputs/train/affectgpt-sample-dry")


def sample_clips():
    return read_dataset(compose_train(["recipe=lora", "baseline=salmonn"]).dataset)


def weights(folder: Path) -> dict[str, bytes]:
    """The checkpoints of a run, byte by byte."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.glob("checkpoint-*/checkpoint_*.pth"))
    }


def test_dry_run_leaves_checkpoints_a_curve_and_its_settings(dry_run):
    folder = dry_run
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
    asked = yaml.safe_load((folder / "baseline/trained.yaml").read_text())
    assert asked["name"] == "affectgpt-sample-dry-step12"
    names = {file.stem for file in (folder / "baseline").iterdir()}
    assert names == {"step0", "step4", "step8", "step12", "trained"}
    # What resuming needs is kept of the last checkpoint alone.
    assert [file.parent.name for file in folder.glob("*/optimizer.pt")] == ["checkpoint-12"]


def test_files_hold_weights_alone_under_the_authors_names(dry_run):
    (file,) = dry_run.glob("checkpoint-12/checkpoint_*.pth")
    content = torch.load(file, weights_only=True)
    assert content["config"]["datasets"]["face_or_frame"] == "multiface_audio_face_text"
    names = set(content["model"])
    assert {"image_llama_proj.weight", "affectgpt_proj.bias", "fc_att.weight"} <= names
    assert not [name for name in names if "base_layer" in name]
    assert all(tensor.dtype == torch.float32 for tensor in content["model"].values())


def test_killed_and_resumed_gives_the_same_bytes(dry_run, tmp_path, capsys):
    folder = tmp_path / RUN
    started = Started(["train", *DRY], tmp_path)
    started.wait_for((folder / "checkpoint-4").exists)
    time.sleep(0.5)  # somewhere within the steps that follow
    started.kill()
    started.communicate()
    assert not (folder / "checkpoint-12").exists()
    train(*DRY, f"outputs={tmp_path / 'outputs'}")
    assert "goes on from checkpoint-" in capsys.readouterr().err
    assert weights(folder) == weights(dry_run)


def test_gradient_checkpointing_changes_no_bit(dry_run, tmp_path):
    settings = "train.gradient_checkpointing=true", "train.steps=4", "variant=v"
    run = train(*DRY, *settings, f"outputs={tmp_path}")
    (first, *_), (found, *_) = (
        dry_run.glob("checkpoint-4/*.pth"),
        run.folder.glob("checkpoint-4/checkpoint_*.pth"),
    )
    assert found.name == first.name
    ours, theirs = (torch.load(file, weights_only=True)["model"] for file in (found, first))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_bfloat16_trains_on_a_cpu_too(dry_run, tmp_path):
    settings = "train.precision=bfloat16", "train.steps=2", "variant=v"
    run = train(*DRY, *settings, f"outputs={tmp_path}")
    half, whole = (
        float((folder / "curve.csv").read_text().splitlines()[1].split(",")[1])
        for folder in (run.folder, dry_run)
    )
    assert half != whole
    assert half == pytest.approx(whole, rel=5e-3)  # bfloat16 keeps 8 bits of a number
    assert not [*run.folder.glob("*/scaler.pt")]
    (file,) = run.folder.glob("checkpoint-2/checkpoint_*.pth")
    content = torch.load(file, weights_only=True)
    assert all(tensor.dtype == torch.float32 for tensor in content["model"].values())


def test_another_encoder_learns_from_videos_and_says_so(tmp_path):
    """DINOv2 in the place of CLIP; the clips have no sound file, and their video is heard."""
    (sample,) = [Path(clip.video) for clip in sample_clips() if clip.name == "farewell"]
    table = tmp_path / "mine.csv"
    table.write_text(f"video,subtitle,openset\n{sample},hi,sad\n", encoding="utf-8")
    given = "recipe=affectgpt_dinov2", *DRY[1:], f"clips={table}", f"outputs={tmp_path}"
    looks = "train.template=frame", "train.kinds=[ovlabel]", "dataset.visual=frame"
    folder = train(*given, *looks, "train.steps=1").folder
    (note,) = json.loads((folder / "train.json").read_text())["notes"]
    assert "1 of 1 clips have no sound file, the first 'farewell'" in note
    assert (folder / "sound_of_video.txt").read_text() == "farewell\n"
    (file,) = folder.glob("checkpoint-1/checkpoint_*.pth")
    tensors = torch.load(file, weights_only=True)["model"]
    assert tensors["affectgpt_proj.weight"].shape == (64, 40)  # from the miniature's DINOv2
    asked = (folder / "baseline/trained.yaml").read_text()
    assert str(folder / "miniature/dinov2-large") in asked


def refused(*overrides: str) -> str:
    with pytest.raises(PrerequisiteError) as caught:
        train(*overrides)
    return str(caught.value)


def test_another_recipe_on_the_same_folder_is_refused(dry_run):
    run = TrainingRun(compose_train([*DRY, "train.lora.rank=8"]), [*DRY])
    run.folder = dry_run
    with pytest.raises(PrerequisiteError, match=r"train\.lora\.rank \(16 there, 8 now\)"):
        run.train()
    given = ["recipe=affectgpt_wavlm", *DRY[1:], "train.name=affectgpt"]
    run = TrainingRun(compose_train(given), given)
    run.folder = dry_run
    sentence = r"other settings: baseline\.checkpoint\.hubert \(.*wavlm-large"
    with pytest.raises(PrerequisiteError, match=sentence):
        run.train()


def test_a_loss_that_is_no_number_stops_with_the_last_good_checkpoint(tmp_path):
    given = (*DRY, "train.save_every=1", f"outputs={tmp_path}", "variant=v", "train.epoch=2")
    # A rate of 1e-6, then of 2.5e29: no finite loss comes after the second step.
    wild = (
        "train.rate.init=1e30", "train.rate.warmup=1e-6", "train.rate.min=1e30",
        "train.rate.warmup_steps=4", "train.steps=6",
    )  # fmt: skip
    said = refused(*given, *wild)
    assert "the loss is nan at step 2" in said
    assert "in float32" in said
    assert "checkpoint-1 is kept; lower train.rate.init" in said
    folder = tmp_path / "train/affectgpt-sample-dry-v"
    about = json.loads((folder / "train.json").read_text())
    assert about["problem"] == said
    assert last_checkpoint(folder) == folder / "checkpoint-1"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["train.kinds=[happy]"], "train.kinds: 'happy'"),
        (["train.loudness=bath"], "did you mean batch"),
        (["train.start=nowhere.pth"], "nowhere.pth"),
        (["train.reasons.file=nowhere.csv"], "train.kinds=[ovlabel]"),
        (["train.lora.targets=[nowhere]"], "train.lora.targets"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path, settings, sentence):
    said = refused(*DRY, *settings, f"outputs={tmp_path}")
    assert sentence in said
    assert "\n" not in said


def test_what_has_no_language_model_cannot_be_trained(tmp_path):
    said = refused("recipe=lora", "baseline=lexicon", f"outputs={tmp_path}")
    assert "'lexicon' has no language model of its own" in said
    wrong = "recipe=lora", "baseline=salmonn", "train.step=affectgpt", f"outputs={tmp_path}"
    assert "trains baseline=affectgpt, not salmonn" in refused(*wrong, "dry_run=true")
    nothing = "recipe=lora", "baseline=salmonn", "train.lora.rank=0", f"outputs={tmp_path}"
    assert "nothing would be trained" in refused(*nothing, "dry_run=true")


def test_a_checkpoint_of_another_rank_is_refused(dry_run, tmp_path):
    (start,) = dry_run.glob("checkpoint-12/checkpoint_*.pth")
    other = f"outputs={tmp_path}", f"train.start='{start}'", "train.lora.rank=4"
    assert "has shape [16, 64] where [4, 64] is trained here" in refused(*DRY, *other)


def test_a_checkpoint_beside_another_language_model_is_no_start(dry_run, tmp_path):
    """LLaMA's adapters have the shapes of Qwen's."""
    (start,) = dry_run.glob("checkpoint-12/checkpoint_*.pth")
    llama = "recipe=affectgpt_llama3", *DRY[1:], f"outputs={tmp_path}", f"train.start='{start}'"
    assert "was trained with other files of llm; set baseline.checkpoint.llm" in refused(*llama)


@pytest.mark.parametrize("program", ["swift", "llama_factory"])
def test_data_for_other_programs(program, tmp_path, monkeypatch, capsys):
    given = "baseline=qwen2_5_omni", "dataset=sample", f"outputs={tmp_path}"
    status, out, _ = Inside(monkeypatch, capsys, tmp_path)(
        "train", *given, f"train.export={program}"
    )
    assert status == 0
    file = Path(out.strip())
    about = file.with_name("dataset_info.json")
    assert about.exists() == (program == "llama_factory")
    if about.exists():  # its columns are those of the rows
        (entry,) = json.loads(about.read_text("utf-8")).values()
        assert (file.parent / entry["file_name"]) == file
        assert set(entry["columns"].values()) == {"messages", "videos", "audios"}
    text = file.read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    row = next(row for row in rows if "farewell" in row.get("videos", [""])[0])
    assert row["messages"][0]["content"].startswith("<video><audio>The subtitle of this video is")
    assert row["messages"][1]["content"].startswith("In the text, she says that he is gone")
    assert Path(row["videos"][0]).is_file()
    assert Path(row["audios"][0]).is_file()
