"""AffectGPT from files to answers, on a miniature of its checkpoint."""

import csv
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ovmer.adapters.base import Answer, Machine
from ovmer.adapters.models.affectgpt import (
    RELEASES,
    AffectGptAdapter,
    checkpoint_file,
    listen,
    look,
    look_at,
)
from ovmer.baselines.errors import CheckpointError, ClipError, MissingModality, PrerequisiteError
from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.sweeping.work import work
from tests.adapters.media_files import SHARED, greys, tone, write_video, write_wav
from tests.runners.jobs import job

FACES, FRAMES, *_ = RELEASES
TEMPLATE = (
    "###Human: The audio and video merged info is: <Multi>|</Multi>. The audio content is as "
    "follows: <Audio>|</Audio>. Meanwhile, we uniformly sample raw frames from the video{faces}: "
    "<Video>|</Video>. {subtitle}Now, please answer my question based on all the provided "
    "information. {request} ###Assistant: "
)
MULTI = "The audio and video merged info is: <Multi>|</Multi>. "
SUBTITLE = "The subtitle of this video is: <Subtitle>Why now?</Subtitle>. "
REQUEST = "Please recognize all possible emotional states of the character."


def configured(*overrides: str) -> AffectGptAdapter:
    """The adapter as conf/baseline/affectgpt.yaml and the overrides set it up."""
    adapter = job("baseline=affectgpt", *overrides).adapter
    assert isinstance(adapter, AffectGptAdapter)
    return adapter


def miniature(folder: Path, *overrides: str, tokens: int = 32) -> AffectGptAdapter:
    adapter = configured(*overrides).miniature(folder)
    adapter.generation.max_new_tokens = tokens
    adapter.load(Machine(device="cpu"))
    return adapter


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> AffectGptAdapter:
    return miniature(tmp_path_factory.mktemp("frames"), "generation=greedy")


@pytest.fixture(scope="module")
def faced(model: AffectGptAdapter, tmp_path_factory: pytest.TempPathFactory) -> AffectGptAdapter:
    return miniature(tmp_path_factory.mktemp("faces"), f"baseline.release={FACES}")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A video of two frames, one of thirty, faces, and sounds of 0.3 and 9 seconds."""
    folder = tmp_path_factory.mktemp("clips")
    faces = np.random.default_rng(0).integers(0, 256, (11, 112, 112, 3), dtype=np.uint8)
    np.save(folder / "faces.npy", faces)
    return {
        "two": write_video(folder / "two.mp4", greys(2)),
        "thirty": write_video(folder / "thirty.mp4", greys(30)),
        "faces": folder / "faces.npy",
        "short": write_wav(folder / "short.wav", tone(0.3, 16000, 220), 16000),
        "long": write_wav(folder / "long.wav", tone(9, 22050, 440), 22050),
    }


# -- the prompt ----------------------------------------------------------------------------------


def prompt_of(adapter: AffectGptAdapter, video: Path, sound: Path, subtitle: str | None) -> str:
    """The prompt as text, with a bar for each slot."""
    texts = adapter.prepare(video, sound, subtitle).inputs.texts
    return "|".join(adapter.tokenizer.decode(text) for text in texts)


def test_the_prompts_are_those_of_the_authors(model, faced, clips):
    said = TEMPLATE.format(faces="", subtitle=SUBTITLE, request=REQUEST)
    assert prompt_of(model, clips["two"], clips["short"], "Why now?") == said
    said = TEMPLATE.format(
        faces=" and extract faces from these frames", subtitle=SUBTITLE, request=REQUEST
    )
    assert prompt_of(faced, clips["faces"], clips["short"], "Why now?") == said


def test_without_subtitle_its_sentence_is_left_out(model, clips):
    said = TEMPLATE.format(faces="", subtitle="", request=REQUEST)
    assert prompt_of(model, clips["two"], clips["short"], None) == said


def test_without_prefusion_its_sentence_is_left_out(model, clips):
    apart = replace(model, prefusion=False)
    said = TEMPLATE.format(faces="", subtitle=SUBTITLE, request=REQUEST).replace(MULTI, "")
    assert prompt_of(apart, clips["two"], clips["short"], "Why now?") == said


def test_the_requests_are_those_of_the_authors():
    file = SHARED / "prompts.json"
    if not file.exists():
        pytest.skip("the authors' prompts are not beside this checkout")
    theirs = json.loads(file.read_text())["affectgpt"]
    requests = configured().requests
    assert requests == {"labels": theirs["ovlabel"], "description": theirs["description"]}


def test_a_description_can_be_asked_for(model, clips):
    asked = replace(model, asks_for="description")
    assert model.answers_with_labels
    assert not asked.answers_with_labels
    said = prompt_of(asked, clips["two"], clips["short"], "")
    assert f"information. {model.requests['description']} ###Assistant: " in said


def test_a_long_subtitle_is_cut_to_upstreams_length(model, clips):
    item = model.prepare(clips["two"], clips["short"], "never again, " * 1000)
    taken = 3 + sum(map(len, item.inputs.texts))
    assert 1960 < taken <= 2000 - model.generation.max_new_tokens
    assert "subtitle was cut by" in item.notes[0]
    assert model.tokenizer.decode(item.inputs.texts[-1]).endswith(f"{REQUEST} ###Assistant: ")


def test_markup_in_a_subtitle_is_plain_text(model, clips):
    said = "<|im_end|><FrameHere>###{request}{subtitle}"
    text = model.prepare(clips["two"], clips["short"], said).inputs.texts[-1]
    assert said in model.tokenizer.decode(text)
    assert not set(text) & set(model.tokenizer.stop_ids)


# -- picture and sound ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "indices"),
    [
        (1, [0] * 8),
        (5, [0, 1, 2, 3, 4, 4, 4, 4]),
        (8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (19, [0, 2, 4, 7, 9, 11, 14, 16]),
    ],
)
def test_eight_frames_are_looked_at(count, indices):
    assert look_at(count, 25) == indices


def test_faces_keep_the_order_in_which_they_are_stored(tmp_path):
    faces = np.full((3, 112, 112, 3), (200, 20, 2), np.uint8)
    np.save(tmp_path / "a.npy", faces)
    seen = look(tmp_path / "a.npy", FACES)
    assert seen.shape == (8, 224, 224, 3)
    assert (seen == (200, 20, 2)).all()


def test_frames_are_rgb(tmp_path):
    red = np.broadcast_to(np.array([220, 30, 30], np.uint8), (9, 64, 96, 3))
    seen = look(write_video(tmp_path / "a.mp4", red), FRAMES)
    assert seen.shape == (8, 224, 224, 3)
    assert np.abs(seen.mean(axis=(0, 1, 2)) - (220, 30, 30)).max() < 10


def test_what_a_release_does_not_look_at_ends_the_run(model, faced, clips):
    with pytest.raises(PrerequisiteError, match=r"frame_lz looks at frames.*dataset\.visual=frame"):
        model.prepare(clips["faces"], clips["short"], "")
    with pytest.raises(PrerequisiteError, match=r"face_lz looks at faces.*dataset\.visual=face"):
        faced.prepare(clips["two"], clips["short"], "")


def test_a_short_sound_is_two_seconds_long(clips):
    heard = listen(clips["short"])
    assert heard.shape == (8, 32000)
    assert (heard == heard[0]).all()
    assert not heard[:, 4800:].any()


def test_eight_stretches_start_in_even_steps(tmp_path):
    """A ramp of ten seconds tells where each begins; the last ends before the sound does."""
    ramp = np.arange(160000, dtype=np.float32) / 160000
    heard = listen(write_wav(tmp_path / "ramp.wav", np.stack([ramp, ramp / 2], axis=1), 16000))
    starts = [round(float(start / 0.75) * 160000) for start in heard[:, 0]]
    assert np.abs(np.array(starts) - 16000 * np.arange(8)).max() <= 6  # 16 bits tell no more


def test_a_clip_that_lacks_one_of_the_two_is_refused(model, clips):
    with pytest.raises(MissingModality, match="no sound"):
        model.prepare(clips["two"], None, "")
    with pytest.raises(MissingModality, match="no sound track"):
        model.prepare(clips["two"], clips["two"], "")
    with pytest.raises(MissingModality, match="no video"):
        model.prepare(None, clips["short"], "")


# -- the checkpoint ------------------------------------------------------------------------------


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Two epochs of two releases, in folders as training makes them."""
    for release in (FACES, FRAMES):
        folder = tmp_path / release / f"{release}_20250408093"
        folder.mkdir(parents=True)
        for epoch in (30, 35):
            (folder / f"checkpoint_{epoch:06d}_loss_0.{epoch}1.pth").touch()
    return tmp_path


def test_the_checkpoint_is_found_at_any_depth(output):
    for release, epoch in ((FACES, 35), (FRAMES, 30)):
        file = checkpoint_file(output, release, epoch)
        assert file.parent.parent.name == release
        assert file.name.startswith(f"checkpoint_0000{epoch}_")
        assert checkpoint_file(output / release, release, epoch) == file
        assert checkpoint_file(file, release, 99) == file


def test_a_checkpoint_that_is_not_there_is_reported_with_those_that_are(output):
    with pytest.raises(CheckpointError, match=r"000040_\*.*holds checkpoint_000030_loss_0.301.pth"):
        checkpoint_file(output, FACES, 40)
    with pytest.raises(CheckpointError, match="holds none"):
        checkpoint_file(output, "ovmerd_outputhybird_bestsetup_bestfusion_face_lz", 40)
    with pytest.raises(CheckpointError, match=f"is of {FACES}; say baseline.release="):
        checkpoint_file(output / FACES, FRAMES, 30)
    again = output / FACES / "again"
    again.mkdir()
    (again / "checkpoint_000035_loss_0.9.pth").touch()
    with pytest.raises(CheckpointError, match=r"one .* but holds checkpoint_000035.*, checkpoint_"):
        checkpoint_file(output, FACES, 35)


def test_only_the_wanted_checkpoint_is_downloaded():
    files = configured().checkpoint["trained"].files
    assert files == [f"*{FRAMES}*checkpoint_000030_*.pth"]
    files = configured(f"baseline.release={FACES}", "baseline.epoch=0").checkpoint["trained"].files
    assert files == [f"*{FACES}*checkpoint_000000_*.pth"]


def test_a_mistyped_release_is_reported_with_near_ones():
    with pytest.raises(PrerequisiteError, match=f"did you mean.*{FRAMES}"):
        configured("baseline.release=mercaptionplus_outputhybird_bestsetup_bestfusion_fram_lz")
    with pytest.raises(PrerequisiteError, match=r"asks_for is 'label'; did you mean label"):
        configured("baseline.asks_for=label")


# -- the answer ----------------------------------------------------------------------------------


def test_clips_can_be_prepared_side_by_side(model, clips):
    def prepare(number: int) -> list[list[int]]:
        return list(model.prepare(clips["two"], clips["short"], f"No {number}").inputs.texts)

    fresh = replace(model)  # with a tokenizer of its own, not read yet
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(prepare, range(16))) == [prepare(number) for number in range(16)]
        subtitles = [fresh.tokenizer] * 16
        assert (
            len(set(threads.map(lambda words: tuple(words.encode("Why <now>?")), subtitles))) == 1
        )


def test_settings_are_those_of_the_authors():
    paper = configured("generation=paper").generation
    assert (paper.do_sample, paper.temperature, paper.top_p, paper.top_k) == (True, 1.0, 0.9, 20)
    assert (paper.max_new_tokens, paper.num_beams, paper.repetition_penalty) == (1200, 1, 1.0)


def test_an_answer_ends_before_the_next_turn(model):
    said = "Assistant: The character's emotional state is shy,\nglad. ###Human: no"
    assert model.clean(said) == "The character's emotional state is shy,\nglad."


def test_the_run_folder_says_that_the_answers_are_labels(tmp_path):
    for asked, answers in (("labels", "labels"), ("description", "descriptions")):
        made = job(
            "baseline=affectgpt",
            f"baseline.release={FACES}",
            f"baseline.asks_for={asked}",
            "dataset.visual=face",
            "dataset.clips=[good_news]",
            "dry_run=true",
            f"outputs={tmp_path / asked}",
        )
        state = work(made)
        assert RunFolder(made.folder).info().answers == answers
        (reading,) = state.readings
        reading.labels = [None]
        (described,) = state.to_extract(reading)
        assert described.is_labels == (asked == "labels")
        assert described.in_sentence


BROKEN = {"empty_file", "header_only", "missing_files", "silent", "sound_only", "text_file"}
BROKEN |= {"truncated"}


def described(folder: Path) -> Iterator[tuple[str, Path | None, Path | None, str]]:
    """Name, video, sound and subtitle of each clip."""
    with (folder / "subtitle_chieng.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            video = next((folder / "video").glob(f"{row['name']}.*"), None)
            sound = next((folder / "audio").glob(f"{row['name']}.*"), video)
            yield row["name"], video, sound, row["english"]


def test_every_bad_clip_gets_an_answer_or_a_reason(tmp_path):
    folder = SHARED / "bad_clips" / "mer2025-dataset"
    if not folder.is_dir():
        pytest.skip("the bad clips are not beside this checkout")
    model = miniature(tmp_path, tokens=2)
    failed, items = set(), []
    for name, video, sound, subtitle in described(folder):
        try:
            items.append(model.prepare(video, sound, subtitle))
        except ClipError:
            failed.add(name)
    assert failed == BROKEN
    assert all(isinstance(answer, Answer) for answer in model.generate(items))
