"""Finding a checkpoint: local folders, the hub's cache, and what is said when it is not there."""

import hashlib
import logging
import os
from pathlib import Path

import huggingface_hub.constants
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from ovmer.baselines.checkpoint import (
    CheckpointPart,
    describe_part,
    file_of,
    fingerprint,
    locate,
    read_json,
)
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.file_hash import sha256_of


def test_a_local_path_replaces_the_repository(tmp_path: Path) -> None:
    assert locate({"llm": CheckpointPart(repo="owner/name", path=str(tmp_path))}) == {
        "llm": tmp_path
    }


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            CheckpointPart(path="/nowhere"),
            r"baseline\.checkpoint\.llm\.path=/nowhere does not exist",
        ),
        (CheckpointPart(), r"llm: in no hub repository; set baseline\.checkpoint\.llm\.path"),
        (CheckpointPart(folder="me/x", get="ask us", gb=13.5), r"as me/x, 13\.5 GB \(ask us\)"),
    ],
)
def test_what_to_set_is_named(part: CheckpointPart, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        locate({"llm": part})


def test_a_part_that_the_configuration_lacks() -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint part 'tower'; set baseline\.checkp"):
        locate({}, ["tower"])


@pytest.mark.parametrize("repo", ["owner/name", "no/such/name"])
def test_offline_names_repository_revision_and_setting(
    repo: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError) as error:
        locate(
            {
                "llm": CheckpointPart(repo=repo, revision="abc123", gb=14.9),
                "tower": CheckpointPart(repo="me/tower"),
            },
            baseline="mine",
        )
    message = str(error.value)
    assert message.startswith(f"checkpoint part 'llm' (14.9 GB), {repo} at revision abc123, is not")
    assert message.count("abc123") == 1, "nothing is said twice"
    assert "also missing: tower: me/tower at revision main; set" in message
    remedies = ("weights=FOLDER", "`ovmer fetch mine`", "HF_HOME", "dry_run=true")
    for remedy in ("baseline.checkpoint.llm.path", *remedies):
        assert remedy in message
    assert "\n" not in message


def test_of_a_hub_that_cannot_be_reached_nothing_but_our_sentence_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = []

    def unreachable(*args: object, local_files_only: bool = False, **options: object) -> str:
        logger = logging.getLogger("huggingface_hub.utils._http")
        if not local_files_only:
            told.append(logger.isEnabledFor(logging.WARNING))
        raise LocalEntryNotFoundError("Got: ConnectError: no such host\nPlease check")

    monkeypatch.delenv("HF_HUB_VERBOSITY", raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(CheckpointError, match=r"\(Got: ConnectError: no such host\); set baseline"):
        locate({"llm": CheckpointPart(repo="owner/name", revision="abc123")})
    assert told == [False]


def test_one_folder_for_all_weights(tmp_path: Path) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (tmp_path / "lmsys" / "vicuna-7b-v0").mkdir(parents=True)
    parts = {
        "llm": CheckpointPart(folder="lmsys/vicuna-7b-v0"),
        "tower": CheckpointPart(repo="owner/name"),
    }
    found = locate(parts, weights=str(tmp_path))
    assert found == {"llm": tmp_path / "lmsys/vicuna-7b-v0", "tower": tmp_path / "owner/name"}
    parts |= {
        "a": CheckpointPart(repo="owner/a", gb=2.0),
        "b": CheckpointPart(folder="x/b", gb=1.5, get="from its page"),
    }
    with pytest.raises(CheckpointError, match=r"3\.5 GB.*a: owner/a.*b: .*as x/b.*from its page"):
        locate(parts, weights=str(tmp_path))
    with pytest.raises(CheckpointError, match="weights=/nowhere is no folder"):
        locate(parts, weights="/nowhere")


def test_a_fingerprint_is_of_the_content_alone(tmp_path: Path) -> None:
    first, second, other = (tmp_path / name for name in "abc")
    for folder, content in ((first, b"1" * 10**6), (second, b"1" * 10**6), (other, b"2" * 10**6)):
        folder.mkdir()
        (folder / "model.bin").write_bytes(content)
    assert fingerprint(first) == fingerprint(second) != fingerprint(other)


def test_every_byte_of_a_large_file_counts_and_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "model.safetensors"
    with file.open("wb") as content:
        content.truncate(17 << 20)
    before = fingerprint(file)
    (kept,) = (tmp_path / "cache").rglob("hashes/*")
    kept.write_text("0" * 64)
    assert sha256_of(file) == "0" * 64, "it is not read again"
    with file.open("r+b") as content:
        content.seek(12_345_678)
        content.write(b"x")
    os.utime(file, ns=(1, 1))
    changed = fingerprint(file)
    os.utime(file, ns=(2, 2))
    assert before != changed == fingerprint(file), "the content counts, its date does not"


def test_a_folder_knows_its_commit_as_long_as_its_files_are_as_they_came(tmp_path: Path) -> None:
    folder, commit = tmp_path / "owner" / "name", "c" * 40
    notes = folder / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    part = CheckpointPart(repo="owner/name", revision=commit, files=["config.json", "model.bin"])
    etags = {
        "config.json": "9e26dfeeb6e641a33dae4961196235bdb965b21b",  # git hash-object
        "model.bin": hashlib.sha256(b"weights").hexdigest(),
    }
    for (name, etag), content in zip(etags.items(), (b"{}", b"weights"), strict=True):
        (folder / name).write_bytes(content)
        (notes / f"{name}.metadata").write_text(f"{commit}\n{etag}\n1.0\n")
    assert describe_part(part, str(tmp_path))["commit"] == commit
    for name, content in (("model.bin", b"weightz"), ("config.json", b"[]")):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        assert "commit" not in describe_part(part, str(tmp_path)), name
        (folder / name).write_bytes(before)


def test_the_hub_calls_large_files_by_their_hash(tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / ("a" * 64)
    blob.parent.mkdir()
    blob.write_bytes(b"weights")
    (tmp_path / "model.safetensors").symlink_to(blob)
    assert sha256_of(tmp_path / "model.safetensors") == "a" * 64


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
