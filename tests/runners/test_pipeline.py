import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ovmer.adapters.base import Adapter, Answer, Prepared, require_video
from ovmer.adapters.heuristic import Random
from ovmer.adapters.scripted import Scripted
from ovmer.baselines.errors import ClipError, PrerequisiteError, Refused, Status
from ovmer.runners.data import Clip
from ovmer.runners.describing.pipeline import Pipeline
from ovmer.runners.describing.requests import ClipRequest, clip_seed, make_request
from tests.runners.jobs import job
from tests.runners.pipelines import NAMES, Streaming, described, requests


@pytest.mark.parametrize("half", ["prepare_fails", "generate_fails"])
@pytest.mark.parametrize(
    ("failure", "status"),
    [
        ("unreadable", Status.UNREADABLE),
        ("missing_modality", Status.MISSING_MODALITY),
        ("out_of_memory", Status.OUT_OF_MEMORY),
        ("timeout", Status.TIMEOUT),
        ("refused", Status.REFUSED),
        ("bug", Status.CRASHED),
    ],
)
def test_a_clip_that_fails_has_its_status_and_takes_no_other_with_it(half, failure, status):
    found = described(Scripted(**{half: {"c": failure}}))
    assert [each.name for each in found] == list(NAMES)
    assert [each.status for each in found] == [
        status if name == "c" else Status.OK for name in NAMES
    ]
    assert f"c: scripted {failure}" in found[2].error
    assert found[2].description == ""
    assert all(each.error is None for each in found if each.name != "c")


@pytest.mark.parametrize("half", ["prepare_fails", "generate_fails"])
def test_a_clip_that_fails_keeps_what_is_known_of_it(half):
    pipeline = Pipeline(Scripted(**{half: {"a": "timeout"}}), seed=0, batch_size=1, workers=1)
    request = replace(requests("a")[0], notes=("no face was found",))
    (found,) = pipeline.describe([request])
    assert (found.status, found.notes) == (Status.TIMEOUT, ("no face was found",))


def test_an_unforeseen_error_names_its_type():
    (found,) = described(Scripted(generate_fails={"a": "bug"}), "a")
    assert found.error.startswith("ZeroDivisionError: a: scripted bug")


@pytest.mark.parametrize("strict", [False, True])
def test_what_is_wrong_with_the_run_ends_it(strict):
    class NoWeights(Scripted):
        def generate(self, batch):
            raise PrerequisiteError("the weights are gone")

    with pytest.raises(PrerequisiteError, match="the weights are gone"):
        described(NoWeights(), strict=strict)


@pytest.mark.parametrize("half", ["prepare_fails", "generate_fails"])
@pytest.mark.parametrize("failure", ["timeout", "bug"])
def test_strict_stops_at_the_first_failure_and_names_the_clip(half, failure):
    pipeline = Pipeline(
        Scripted(**{half: {"c": failure}}), seed=0, batch_size=1, workers=2, strict=True
    )
    found = pipeline.describe(requests())
    assert [next(found).name, next(found).name] == ["a", "b"]
    with pytest.raises(ClipError, match=r"^c: .*scripted") as caught:
        next(found)
    assert caught.value.__cause__ is not None


def test_an_answer_without_words_is_empty_and_no_failure():
    found = described(Scripted(answers={"a": "", "b": " \n"}), "abc")
    assert [each.status for each in found] == [Status.EMPTY, Status.EMPTY, Status.OK]
    assert not any(each.failed for each in found)


def test_answers_carry_tokens_and_the_notes_of_both_halves():
    class Noted(Adapter):
        def prepare(self, video, audio, subtitle):
            return Prepared(None, notes=("the subtitle was cut",))

        def generate(self, batch):
            notes = ("stopped at the limit",)
            return [Answer("fine", 12, 3, notes=notes, thinking="hm") for _ in batch]

    (found,) = described(Noted(), "a")
    assert (found.prompt_tokens, found.new_tokens) == (12, 3)
    assert found.notes == ("the subtitle was cut", "stopped at the limit")
    assert (found.description, found.thinking) == ("fine", "hm")


@pytest.mark.parametrize("answers", [[], ["one", "too", "many"], [None], [7]])
def test_a_plug_in_that_breaks_the_contract_crashes_that_clip_alone(answers):
    class Odd(Scripted):
        def generate(self, batch):
            return answers if any(item.inputs == "a" for item in batch) else ["x"] * len(batch)

    found = described(Odd(), "ab")
    assert [each.status for each in found] == [Status.CRASHED, Status.OK]


def test_an_error_in_the_code_of_a_plug_in_names_its_file_and_line():
    class Broken(Scripted):
        def generate(self, batch):
            return [len(7) for _ in batch]

    (found,) = described(Broken(), "a")
    line = Broken.generate.__code__.co_firstlineno + 1
    assert found.error.endswith(f"has no len() (test_pipeline.py, line {line})")


@pytest.mark.parametrize("half", ["prepare", "generate"])
def test_a_missing_package_ends_the_run_as_every_clip_lacks_it(half):
    def needing(self, *given):
        import package_that_nobody_has  # noqa: F401

    adapter = type("Needing", (Scripted,), {half: needing})()
    with pytest.raises(PrerequisiteError, match=r"package_that_nobody_has is missing \(test_pipe"):
        described(adapter)


class TorchLike(RuntimeError):
    """Stands in for torch.OutOfMemoryError, which is known by its name alone."""


TorchLike.__name__ = "OutOfMemoryError"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        TorchLike("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    ],
)
def test_memory_that_does_not_suffice_is_no_crash(error):
    class Big(Scripted):
        def generate(self, batch):
            raise error

    assert [each.status for each in described(Big(), "ab")] == [Status.OUT_OF_MEMORY] * 2


@pytest.mark.parametrize(
    ("modalities", "video", "audio", "status"),
    [
        ({"video"}, None, None, Status.MISSING_MODALITY),
        ({"audio", "subtitle"}, None, None, Status.MISSING_MODALITY),
        ({"video", "audio"}, None, Path("a.wav"), Status.OK),
        ({"subtitle"}, None, None, Status.OK),
        (set(), None, None, Status.OK),
    ],
)
def test_a_clip_without_any_medium_of_the_model_is_not_asked(modalities, video, audio, status):
    class Says(Adapter):
        def describe(self, video, audio, subtitle):
            return "fine"

    Says.modalities = frozenset(modalities)
    pipeline = Pipeline(Says(), seed=0, batch_size=1, workers=1)
    (found,) = pipeline.describe([ClipRequest("a", video, audio, "", (), {})])
    assert found.status is status


@pytest.mark.parametrize(
    ("faces", "remedy"), [("given", "add faces=detect"), ("detect", "set faces.missing=frame")]
)
def test_a_clip_without_face_crops_is_not_said_to_have_no_video(faces, remedy):
    class Looks(Adapter):
        modalities = frozenset({"video", "audio"})

        def describe(self, video, audio, subtitle):
            return str(require_video(video))

    clip = Clip("a", Path("a.mp4"), Path("a.mp4"), None, None, ())
    settings = ("dataset.visual=face", "dataset.check_files=false", f"faces={faces}")
    request = make_request(job("baseline=video_llava", *settings), clip)
    (found,) = Pipeline(Looks(), seed=0, batch_size=1, workers=1).describe([request])
    assert found.status is Status.MISSING_MODALITY
    assert found.error.startswith(f"the clip has no face crops; {remedy}")
    assert make_request(job("baseline=qwen_audio", *settings), clip).lacks_face == ""


def test_a_failure_inside_a_plain_describe_is_returned_in_its_position():
    class Picky(Adapter):
        def describe(self, video, audio, subtitle):
            if video.stem == "b":
                raise Refused("not this one")
            return "fine"

    assert [each.status for each in described(Picky(), "abc")] == ["ok", "refused", "ok"]


def test_words_depend_on_seed_and_name_alone():
    def words(names, **how):
        return {each.name: each.description for each in described(Random(), names, **how)}

    usual = words(NAMES)
    assert words(NAMES[::-1], batch_size=1, workers=1) == usual
    assert words("c", batch_size=3, workers=4) == {"c": usual["c"]}
    assert len(set(usual.values())) > 1


def test_seeds_are_pinned():
    """A change here changes the words of every sampled run ever made."""
    assert clip_seed(0, "sample_00000123") == 5105115453825072933
    assert clip_seed(1, "字幕") == 4724808965446091811


def test_truth_and_seed_reach_the_adapter():
    class Tells(Adapter):
        def prepare(self, video, audio, subtitle):
            return Prepared(None)

        def generate(self, batch):
            return [f"{item.seed} {item.truth}" for item in batch]

    request = ClipRequest("a", Path("a.mp4"), None, None, ("happy",), {})
    (found,) = Pipeline(Tells(), seed=5, batch_size=1, workers=1).describe([request])
    assert found.description == f"{clip_seed(5, 'a')} ('happy',)"


def test_preparing_runs_ahead_of_generating_but_not_without_end():
    third, prepared, ahead = threading.Event(), [], []

    class Watch(Scripted):
        def prepare(self, video, audio, subtitle):
            prepared.append(threading.get_ident())
            if len(prepared) == 3:
                third.set()
            return super().prepare(video, audio, subtitle)

        def generate(self, batch):
            assert third.wait(30), "no clip beyond the first batch is prepared meanwhile"
            time.sleep(0.005)
            ahead.append(len(prepared))
            return super().generate(batch)

    found = described(Watch(), [str(i) for i in range(40)], batch_size=2, workers=1)
    assert all(each.status is Status.OK for each in found)
    beyond = [count - 2 * (number + 1) for number, count in enumerate(ahead)]
    assert max(beyond) <= 1 + 2 * 2 + 1, "a worker, two batches, and the clip at hand"
    assert threading.get_ident() not in prepared


class Encoding(Adapter):
    """Counts tokens by the length of a clip's name, as `encode` of a model does by its prompt."""

    modalities = frozenset({"video"})

    def __init__(self):
        self.encoded, self.batches = [], []

    def prepare(self, video, audio, subtitle):
        return Prepared(video.stem)

    def encode(self, batch):
        assert threading.current_thread() is not threading.main_thread()
        self.encoded.append(len(batch))
        if any(item.inputs == "bug" for item in batch):
            raise ZeroDivisionError
        return [
            Refused("not this one")
            if item.inputs == "refused"
            else Prepared(item.inputs.upper(), seed=item.seed, tokens=len(item.inputs))
            for item in batch
        ]

    def generate(self, batch):
        self.batches.append([item.inputs for item in batch])
        return [f"{item.inputs} {item.seed}" for item in batch]


def test_batches_are_made_by_tokens_padding_included():
    adapter = Encoding()
    names = ["aa", "bb", "cc", "dddd", "ee", "ffffffffff", "g", "h"]
    pipeline = Pipeline(adapter, seed=0, batch_size=3, batch_tokens=8, workers=2)
    found = list(pipeline.describe(requests(names)))
    assert [each.name for each in found] == names
    assert adapter.batches == [
        ["AA", "BB", "CC"],  # 6 tokens, and as many clips as may be
        ["DDDD", "EE"],  # 8 with the padding
        ["FFFFFFFFFF"],  # too large for any batch
        ["G", "H"],
    ]
    assert found[3].description == f"DDDD {clip_seed(0, 'dddd')}"


def test_no_batch_is_larger_than_the_adapter_says_that_the_device_holds():
    class Small(Encoding):
        batch_tokens = 4

    adapter = Small()
    pipeline = Pipeline(adapter, seed=0, batch_size=8, batch_tokens=100, workers=2)
    list(pipeline.describe(requests(["aa", "bb", "cc"])))
    assert adapter.batches == [["AA", "BB"], ["CC"]]


STICKY = (
    "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported"
)


@pytest.mark.parametrize("half", ["encode", "generate"])
@pytest.mark.parametrize("error", [STICKY, "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when ..."])
def test_a_device_that_is_lost_ends_the_run_and_names_the_clips(half, error):
    class Lost(Encoding):
        asked = 0

        def fails(self, batch):
            self.asked += any(item.inputs.lower() == "c" for item in batch) or self.asked > 0
            if self.asked:
                raise RuntimeError(error)

        def encode(self, batch):
            if half == "encode":
                self.fails(batch)
            return super().encode(batch)

        def generate(self, batch):
            if half == "generate":
                self.fails(batch)
            return super().generate(batch)

    adapter, found = Lost(), []
    pipeline = Pipeline(adapter, seed=0, batch_size=2, workers=2)
    named = "b, c" if half == "encode" else "c, d"  # encoders take a, then b and c
    said = rf"GPU failed at {named} .*the same command goes on"
    with pytest.raises(PrerequisiteError, match=said):
        found.extend(pipeline.describe(requests("abcdefghij")))
    assert [each.name for each in found if each.failed] == []
    assert adapter.asked == 1, "no second batch is put to a device that is lost"
    assert len(found) <= 2


def test_an_error_of_one_call_is_that_clips_alone():
    class Odd(Encoding):
        def generate(self, batch):
            if any(item.inputs == "B" for item in batch):
                raise RuntimeError("CUDA error: invalid argument")
            return super().generate(batch)

    assert [each.status for each in described(Odd(), "abc")] == ["ok", "crashed", "ok"]


def test_what_fails_to_be_encoded_takes_no_other_with_it():
    adapter = Encoding()
    found = described(adapter, ["a", "refused", "b", "bug", "c"])
    assert [each.status for each in found] == ["ok", "refused", "ok", "crashed", "ok"]
    assert adapter.encoded == [1, 2, 2, 1, 1], "one, two, and two that failed; these one by one"


def test_one_batch_is_encoded_while_another_is_generated():
    second = threading.Event()

    class Watch(Encoding):
        def encode(self, batch):
            if self.encoded:
                second.set()
            return super().encode(batch)

        def generate(self, batch):
            assert second.wait(30), "nothing is encoded meanwhile"
            return super().generate(batch)

    assert [each.status for each in described(Watch(), batch_size=2, workers=1)] == ["ok"] * 6


def test_a_stream_finds_the_next_clips_encoded_before_it_has_drawn_the_last_ones():
    third = threading.Event()

    class Watch(Encoding):
        feeding = "stream"

        def encode(self, batch):
            if sum(self.encoded) == 3:  # one and two before it
                third.set()
            return super().encode(batch)

        def stream(self, items):
            for number, item in enumerate(items):
                assert number != 1 or third.wait(30), "the second of three waits to be drawn"
                yield number, self.generate([item])[0]

    assert [each.status for each in described(Watch())] == ["ok"] * 6


def test_what_is_wrong_with_the_run_while_encoding_ends_it():
    class NoMemory(Encoding):
        def encode(self, batch):
            raise PrerequisiteError("the GPU is too small")

    with pytest.raises(PrerequisiteError, match="the GPU is too small"):
        described(NoMemory())


class Ending(BaseException):
    """Not an Exception: what no `except Exception` turns into a record."""


@pytest.mark.timeout(30)
@pytest.mark.parametrize("stage", ["prepare", "encode", "generate", "stream"])
def test_whatever_is_raised_in_a_thread_leaves_nothing_hanging(stage):
    def end(*arguments):
        raise Ending(stage)

    kind = {"encode": Encoding, "stream": Streaming}.get(stage, Scripted)
    adapter = type("Broken", (kind,), {stage: end})()
    with pytest.raises(Ending, match=stage):
        described(adapter)
