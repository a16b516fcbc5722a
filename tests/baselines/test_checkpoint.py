"""Finding a checkpoint: local folders, the hub's cache, and what is said when it is not there."""

import logging
from pathlib import Path

import huggingface_hub.constants
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from ovmer.baselines.checkpoint import Part, file_of, locate, read_json
from ovmer.baselines.errors import CheckpointError


def test_a_local_path_takes_the_place_of_the_repository(tmp_path: Path) -> None:
    assert locate({"llm": Part(repo="owner/name", path=str(tmp_path))}, "llm") == tmp_path


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Part(path="/nowhere"), r"baseline\.checkpoint\.llm\.path=/nowhere does not exist"),
        (Part(), r"'llm' names neither a repository nor a path; set baseline\.checkpoint\.llm\.pa"),
    ],
)
def test_what_to_set_is_named(part: Part, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        locate({"llm": part}, "llm")


def test_a_part_that_the_configuration_lacks() -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint part 'tower'; set baseline\.checkp"):
        locate({}, "tower")


@pytest.mark.parametrize("repo", ["owner/name", "no/such/name"])
def test_offline_names_repository_revision_and_setting(
    repo: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError) as error:
        locate({"llm": Part(repo=repo, revision="abc123")}, "llm")
    message = str(error.value)
    assert f"{repo} at revision abc123" in message
    assert "set baseline.checkpoint.llm.path" in message
    assert "\n" not in message


def test_of_a_hub_that_cannot_be_reached_nothing_but_our_sentence_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = []

    def unreachable(*args: object, **options: object) -> str:
        told.append(logging.getLogger("huggingface_hub.utils._http").isEnabledFor(logging.WARNING))
        raise LocalEntryNotFoundError("Got: ConnectError: no such host\nPlease check")

    monkeypatch.delenv("HF_HUB_VERBOSITY", raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(CheckpointError, match=r"\(Got: ConnectError: no such host\); set baseline"):
        locate({"llm": Part(repo="owner/name", revision="abc123")}, "llm")
    assert told == [False]


def test_json_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        read_json(tmp_path)
    for content in ('{"hidden_size": 10', "[1]"):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(CheckpointError, match=r"config\.json .*fetch it again"):
            read_json(tmp_path)


def test_a_part_that_is_one_file_alone_or_in_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.touch()
    assert file_of(file, "weights.pth") == file_of(tmp_path, "weights.pth") == file
    with pytest.raises(CheckpointError, match=r"has no other\.pth"):
        file_of(tmp_path, "other.pth")
