import errno
from pathlib import Path

import pytest

from ovmer.baselines.errors import PrerequisiteError, Status
from ovmer.runners.folder.records import LabelRecord, Prediction, RecordWriter, read_records

FULL = Path("/dev/full")
GOOD = Prediction(
    "字幕 名",
    Status.OK,
    'said "so",\nand 🙂',
    seconds=0.5,
    prompt_tokens=3,
    new_tokens=4,
    notes=("cut",),
    fingerprint={"video": "12-34"},
)
BAD = Prediction("b", Status.UNREADABLE, error="b.mp4 is empty")


def written(path, *records):
    with RecordWriter(path) as writer:
        for record in records:
            writer.append(record)


@pytest.mark.parametrize(
    "record", [GOOD, BAD, LabelRecord("a", ("happy", "sad"), "[happy, sad]", "key")]
)
def test_what_is_written_is_read_back(tmp_path, record):
    written(tmp_path / "r.jsonl", record)
    assert list(read_records(tmp_path / "r.jsonl", type(record))) == [record]


def test_no_file_holds_no_records(tmp_path):
    assert list(read_records(tmp_path / "none.jsonl", Prediction)) == []


def test_a_line_cut_at_any_byte_is_left_out_and_repaired(tmp_path):
    path = tmp_path / "r.jsonl"
    written(path, GOOD, BAD)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        path.write_bytes(whole[:end])
        assert list(read_records(path, Prediction)) == [GOOD]
        written(path, BAD)
        assert path.read_bytes() == whole


def test_a_line_that_is_no_record_is_named(tmp_path):
    path = tmp_path / "r.jsonl"
    written(path, GOOD)
    path.write_bytes(b'{"name": "a"}\n' + path.read_bytes())
    with pytest.raises(PrerequisiteError, match=r"r\.jsonl, line 1 is no record"):
        list(read_records(path, Prediction))


def test_what_cannot_be_encoded_is_written_all_the_same(tmp_path):
    path = tmp_path / "r.jsonl"
    written(path, Prediction("a", Status.UNREADABLE, error="no \udcff.mp4"))
    assert [each.error for each in read_records(path, Prediction)] == ["no ?.mp4"]


def test_one_writer_at_a_time(tmp_path):
    path = tmp_path / "r.jsonl"
    with (
        RecordWriter(path),
        pytest.raises(PrerequisiteError, match="another run is writing to"),
    ):
        RecordWriter(path)
    RecordWriter(path).__exit__(None, None, None)


@pytest.mark.skipif(not FULL.exists(), reason="needs the device /dev/full")
def test_a_full_disk_names_the_file():
    with pytest.raises(OSError, match="No space left") as caught, RecordWriter(FULL) as writer:
        writer.append(GOOD)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(FULL))
