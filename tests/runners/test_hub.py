"""Checkpoints on a hub, which here is a server of our own: outlines, downloads, and refusals."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from ovmer.baselines.checkpoint import CheckpointPart, describe_part, locate
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.hub import outline
from ovmer.baselines.weight_index import index_files
from ovmer.runners.checkpoints import baselines, compare, survey
from tests import ROOT
from tests.hub_server import COMMIT, Hub, serving
from tests.runners.test_weights import placed

LARGE = 3000
"""Rows and columns of a tensor of 36 MB, more than an outline holds whole."""
CHAT = "Qwen/Qwen2.5-VL-7B-Instruct"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Two models as they are published, and files of which an outline is a small part."""
    root = tmp_path_factory.mktemp("hub")
    for name in ("video_llava", "qwen2_5_vl"):
        placed(name, root)
    large = {"model.embed_tokens.weight": torch.zeros(LARGE, LARGE)}
    folder = root / "me" / "large"
    folder.mkdir(parents=True)
    for name in ("config.json", "README.md"):
        (folder / name).write_text("{}")
    save_file(large, folder / "model.safetensors")
    torch.save({"model": large, "epoch": 3}, folder / "large.pth")
    with serving(root) as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The server as the hub of this process, whose cache is empty."""
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    server.sent = 0
    yield server
    server.gated, server.torn = set(), set()


@pytest.mark.parametrize("name", ["video_llava", "qwen2_5_vl"])
def test_files_on_the_hub_are_compared_without_being_downloaded(hub, name, tmp_path) -> None:
    ((_, adapter),) = baselines([name])
    found = list(survey(name, adapter, None, tmp_path / "outlines"))
    assert {each.verdict for each in found} == {"on the hub"}, [each.reason for each in found]
    compare(found, adapter)
    assert {each.verdict for each in found} == {"fits"}, [each.reason for each in found]
    for each in found:
        revision = adapter.checkpoint[each.part].revision.replace("main", COMMIT)
        assert each.where == f"{adapter.checkpoint[each.part].repo}@{revision}"
        assert each.terms
    assert not (tmp_path / "cache").exists()


def test_of_large_files_the_index_alone_is_read(hub, tmp_path) -> None:
    assert outline("me/large", "main", ["*"], "the part", tmp_path) == COMMIT
    assert hub.sent < 1e6
    for name in ("model.safetensors", "large.pth"):
        file = tmp_path / name
        assert file.stat().st_size == (hub.root / "me/large" / name).stat().st_size > 36e6
        assert file.stat().st_blocks * 512 < 1e6, "sparse"
        ((entry,),) = (index.entries.values() for index in index_files(file))
        assert (entry.key, entry.shape) == ("model.embed_tokens.weight", (LARGE, LARGE))


def test_a_mirror_by_its_variable(hub, tmp_path) -> None:
    def ask(*arguments: str, endpoint: str) -> subprocess.CompletedProcess[str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        env = kept | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home")}
        command = [sys.executable, "-m", "ovmer", *arguments]
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)

    run = ask("fetch", "video_llava", endpoint=hub.url)
    assert run.returncode == 0, run.stderr
    assert str(tmp_path / "home") in run.stdout
    found = ask("weights", "video_llava", "json=true", endpoint="http://127.0.0.1:9")
    assert {each["verdict"] for each in json.loads(found.stdout)} == {"whole"}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("gated", "is gated: ask for access on its page of the hub, then set HF_TOKEN"),
        ("no access", "is gated: ask for access on its page of the hub, then set HF_TOKEN"),
        ("revision", "is not on the hub in that revision; set its revision to main"),
        ("repository", "is not on the hub under that name, or private: check the name"),
        ("torn", "cannot be downloaded"),
        ("no network", "cannot be downloaded (Got: ConnectError"),
        ("offline", "cannot be downloaded"),
        ("read-only", "; set HF_HOME to a folder that can be written"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(hub, fault, said, tmp_path, monkeypatch) -> None:
    part = CheckpointPart(CHAT, files=["*.json", "*.safetensors"])
    if fault in ("gated", "no access"):
        hub.gated = {CHAT}
    elif fault == "revision":
        part.revision = "no-such"
    elif fault == "repository":
        part.repo = "no/such"
    elif fault == "torn":
        hub.torn = {"model.safetensors"}
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    elif fault == "no network":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    elif fault == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    elif fault == "read-only":
        monkeypatch.setattr(constants, "HF_HUB_CACHE", "/sys/nowhere")
    if fault == "no access":
        monkeypatch.setenv("HF_TOKEN", "hf_of_another")
    with pytest.raises(CheckpointError) as error:
        locate({"model": part})
    message = str(error.value)
    assert said in message
    assert "checkpoint part 'model'" in message
    assert "baseline.checkpoint.model.path" in message
    assert "\n" not in message


@pytest.mark.parametrize("client", ["today's", "an early one"])
def test_half_a_download_goes_on(client, hub, monkeypatch, tmp_path) -> None:
    part = CheckpointPart("me/large", files=["*.json", "*.safetensors"])
    hub.torn = {"model.safetensors"}
    with pytest.raises(CheckpointError):
        locate({"model": part})
    hub.torn = set()
    if client == "an early one":
        rmtree(tmp_path / "cache/models--me--large/trees")
    found = locate({"model": part})["model"]
    whole = (hub.root / "me/large/model.safetensors").read_bytes()
    assert (found / "model.safetensors").read_bytes() == whole
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert describe_part(part, None)["commit"] == COMMIT, "the hub is not asked again"


def test_access_that_was_granted_and_a_pointer_that_was_not_resolved(
    hub, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_granted")
    hub.gated = {"me/pointer"}
    folder = hub.root / "me" / "pointer"
    folder.mkdir()
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (folder / "model.safetensors").write_text(pointer)
    ((name, adapter),) = baselines(["qwen2_5_vl"])
    adapter.checkpoint["model"].repo = "me/pointer"
    (found,) = survey(name, adapter, None, tmp_path)
    assert found.verdict == "refused"
    assert "is a git-lfs pointer, not the file itself; run git lfs pull" in found.reason
    assert "Bearer hf_granted" in hub.tokens
