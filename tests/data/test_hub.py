"""Data sets of the hub, from the cache of the package `datasets` and without a network."""

from pathlib import Path

import pytest

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.data import read_dataset
from ovmer.runners.data.hub import table_of
from tests.runners.jobs import job

ROWS = {
    "video": [{"bytes": b"one", "path": "in/anna.webm"}, {"bytes": b"two", "path": None}],
    "labels": [[0], [1, 0]],
    "mood": [1, None],
    "said": ["He is gone.", None],
    "poster": [{"bytes": b"a picture", "path": None}] * 2,
}


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data set me/clips as it lies in the cache once it was loaded."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "ours"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "theirs")
    datasets.disable_progress_bars()
    words = datasets.ClassLabel(names=["sad", "happy"])
    features = datasets.Features(
        {
            "video": datasets.Video(decode=False),
            "labels": datasets.List(words),
            "mood": words,
            "said": datasets.Value("string"),
            "poster": datasets.Image(decode=False),
        }
    )
    data = datasets.Dataset.from_dict(ROWS, features=features)
    data.to_parquet(tmp_path / "rows.parquet")
    builder = datasets.load_dataset_builder("parquet", data_files=str(tmp_path / "rows.parquet"))
    builder.download_and_prepare()
    folder = tmp_path / "theirs" / "me___clips" / "default" / "0.0.0" / "it"
    folder.parent.mkdir(parents=True)
    Path(builder.cache_dir).rename(folder)
    (folder / "parquet-train.arrow").rename(folder / "clips-train.arrow")
    table_of.cache_clear()
    return folder


def test_its_rows_are_clips(cached: Path):
    wanted = job("clips=hf:me/clips", "columns.subtitle=said")
    assert wanted.folder.parent.name.startswith("clips_train-")
    anna, other = read_dataset(wanted.settings.dataset)
    assert (anna.name, anna.labels, anna.subtitle) == ("anna", ("sad",), "He is gone.")
    assert (other.labels, other.subtitle) == (("happy", "sad"), None)
    assert anna.video is not None
    assert anna.video.read_bytes() == b"one"
    assert anna.video.suffix == ".webm"
    assert other.video is not None
    assert other.video.read_bytes() == b"two"


def test_names_of_classes_replace_numbers_and_pictures_are_left_out(cached: Path):
    text = table_of("hf:me/clips").read_text("utf-8")
    assert '"mood": "happy"' in text
    assert '"mood": null' in text
    assert "poster" not in text
    assert table_of("hf:me/clips:train[:1]").read_text("utf-8") == text.splitlines()[0]


@pytest.mark.parametrize(
    ("clips", "sentence"),
    [
        ("hf:me/none", r"clips=hf:me/none cannot be loaded \(.*hf:OWNER/NAME/CONFIG:SPLIT"),
        ("hf:me/clips:test", r"Should be one of \['train'\]"),
        ("hf:me/clips/other", "for config 'other'"),
        ("hf:a b", r"write hf:OWNER/NAME\[/CONFIG\]"),
    ],
)
def test_one_sentence_for_what_is_not_to_be_had(cached: Path, clips: str, sentence: str):
    with pytest.raises(PrerequisiteError, match=sentence) as caught:
        job(f"clips={clips}")
    assert "\n" not in str(caught.value)
