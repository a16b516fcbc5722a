import errno
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from ovmer.baselines import llm_folder
from ovmer.baselines.device import Placement
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.llm_folder import LlmFolder
from ovmer.baselines.models import onellm, qwen_audio, salmonn, video_llava_hf

CPU = Placement(torch.device("cpu"), torch.float32)
Load = Callable[[dict[str, Path], Placement], Any]


def load_salmonn(parts: dict[str, Path], placement: Placement) -> salmonn.Salmonn:
    return salmonn.Salmonn.load(**parts, heads=12, placement=placement)


PORTS: dict[str, tuple[Any, Load]] = {
    "lora": (salmonn, load_salmonn),
    "meta": (onellm, lambda parts, place: onellm.OneLlm.load(parts["model"], place)),
    "fused": (qwen_audio, lambda parts, place: qwen_audio.QwenAudio.load(parts["model"], place)),
    "inner": (
        video_llava_hf,
        lambda parts, place: video_llava_hf.VideoLlavaHf.load(parts["model"], place),
    ),
}


@pytest.mark.parametrize("port", PORTS)
def test_the_folder_holds_the_language_model_and_the_rest_stays(port: str, tmp_path: Path):
    module, load = PORTS[port]
    parts = module.write_miniature(tmp_path / "published", seed=1)
    whole = load(parts, CPU)
    folder = LlmFolder(tmp_path / "cache", port)
    rest = load(parts, replace(CPU, llm_folder=folder))

    kept = AutoModelForCausalLM.from_pretrained(folder.path)
    assert type(kept) is type(whole.llm)
    for name, tensor in whole.llm.state_dict().items():
        assert torch.equal(kept.state_dict()[name], tensor), name
    prompt = torch.randn(1, 5, whole.llm.config.hidden_size)
    assert torch.equal(kept(inputs_embeds=prompt).logits, whole.llm(inputs_embeds=prompt).logits)

    words = whole.llm.get_input_embeddings().weight
    assert torch.equal(rest.llm.get_input_embeddings().weight, words)
    weights = dict(rest.named_parameters())
    assert {name for name, value in weights.items() if value.is_meta} == {
        name
        for name, value in whole.named_parameters()
        if name.startswith("llm.") and value.data_ptr() != words.data_ptr()
    }
    assert rest.llm.device == CPU.device
    assert rest.llm.dtype == CPU.dtype


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return salmonn.write_miniature(tmp_path_factory.mktemp("published"), seed=1)


def keep(parts: dict[str, Path], cache: Path, dtype: torch.dtype = torch.float32) -> Path:
    folder = LlmFolder(cache, "salmonn")
    load_salmonn(parts, Placement(CPU.device, dtype, folder))
    return folder.path


def test_it_is_written_once_for_each_type_and_each_state_of_the_files(
    parts: dict[str, Path], tmp_path: Path
):
    full = keep(parts, tmp_path)
    made = full.stat().st_mtime_ns
    assert keep(parts, tmp_path) == full
    assert full.stat().st_mtime_ns == made
    half = keep(parts, tmp_path, torch.bfloat16)
    assert half != full
    assert json.loads((half / "config.json").read_text())["dtype"] == "bfloat16"
    parts["connector"].touch()  # the adapters that are merged in
    assert keep(parts, tmp_path) not in (full, half)


def test_shards_are_found_through_their_index(
    parts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = AutoModelForCausalLM.from_pretrained(keep(parts, tmp_path / "one"))
    monkeypatch.setattr(llm_folder, "SHARD_BYTES", 20_000)
    many = keep(parts, tmp_path / "many")
    assert len(list(many.glob("model-*.safetensors"))) > 2
    found = AutoModelForCausalLM.from_pretrained(many).state_dict()
    assert all(torch.equal(found[name], value) for name, value in whole.state_dict().items())


def test_of_two_writers_one_writes(
    parts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    written = []
    write = llm_folder.save_file

    def save_file(tensors: dict[str, torch.Tensor], *options: Any, **more: Any) -> None:
        written.append(tensors)
        write(tensors, *options, **more)

    monkeypatch.setattr(llm_folder, "save_file", save_file)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: keep(parts, tmp_path), range(2))
    assert first == second
    assert len(written) == 1
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [first]


def test_what_a_killed_writer_left_is_cleared_away(parts: dict[str, Path], tmp_path: Path):
    path = keep(parts, tmp_path)
    torn = tmp_path / f".{path.name}-killed"
    path.rename(torn)
    (torn / "config.json").unlink()
    assert keep(parts, tmp_path) == path
    assert not torn.exists()
    AutoModelForCausalLM.from_pretrained(path)


def test_a_full_disk_is_reported_in_one_sentence(
    parts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(llm_folder, "save_file", full)
    with pytest.raises(PrerequisiteError, match=r"the disk is full.*set engine\.cache"):
        keep(parts, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
