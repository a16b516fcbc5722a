"""What a server is sent of a clip, and what becomes of its answers, good and bad."""

import io
import json
import threading
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from ovmer.adapters.base import Machine
from ovmer.adapters.media import read_frames, read_sound
from ovmer.adapters.native import Native
from ovmer.adapters.served import Served
from ovmer.adapters.thinking import CUT_WHILE_THINKING
from ovmer.baselines.decoding.engine_settings import ServerSettings
from ovmer.baselines.decoding.server_engine import chat_parameters
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import PrerequisiteError, Status
from ovmer.runners.describing.pipeline import Pipeline
from ovmer.runners.describing.requests import ClipRequest
from tests.adapters.media_files import greys, numbers, tone, write_video, write_wav
from tests.extraction.fake_server import MODEL, Misbehaviour, completion, error, serving
from tests.runners.jobs import job

pytestmark = pytest.mark.usefixtures("quick_retries")

NAMES = "abcdef"


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> tuple[Path, Path]:
    """Two seconds of grey, and one and a half of a tone."""
    folder = tmp_path_factory.mktemp("clip")
    video = write_video(folder / "clip.mp4", greys(50, 120, 180))
    return video, write_wav(folder / "clip.wav", tone(1.5, 16_000), 16_000)


def loaded(server=None, adapter=None, **engine):
    adapter = adapter or Served(model=MODEL)
    url = server.url if server else None
    adapter.load(Machine(engine={"name": "server", "base_url": url, "retries": 2} | engine))
    return adapter


def sent(clip, subtitle="Hi.", **fields):
    """The body of the one request about a clip, and the answer's text."""
    with serving(lambda n, request: "She smiles.") as server:
        adapter = loaded(server, Served(model=MODEL, **fields))
        assert adapter.describe(*clip, subtitle) == "She smiles."
    (request,) = server.requests
    return request


def data_of(part):
    kind = part["type"]
    return b64decode(part[kind]["url"].partition("base64,")[2])


def test_a_clip_is_one_message_of_images_sound_and_words(clip):
    request = sent(clip, frames=3)
    (message,) = request.pop("messages")
    assert request == {
        "model": MODEL,
        "temperature": 0.0,
        "top_p": 1.0,
        "max_tokens": 512,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "logprobs": True,
    }
    *images, sound, words = message["content"]
    assert message["role"] == "user"
    pictures = [np.asarray(Image.open(io.BytesIO(data_of(image)))) for image in images]
    assert numbers(np.stack(pictures)) == [0, 24, 49]
    assert pictures[0].shape == (120, 180, 3)
    samples, rate = soundfile.read(io.BytesIO(b64decode(sound["input_audio"]["data"])))
    heard = read_sound(clip[1], 16_000)
    assert (rate, sound["input_audio"]["format"]) == (16_000, "wav")
    assert np.abs(samples - heard).max() < 2**-15
    assert words["text"].startswith("Subtitle content of this video: Hi.;")


def test_frames_go_as_one_video_with_their_times(clip, tmp_path):
    request = sent(clip, frames=6, picture="video", modalities="video", longest_side=91)
    video, _ = request["messages"][0]["content"]
    (tmp_path / "sent.mp4").write_bytes(data_of(video))
    frames = read_frames(tmp_path / "sent.mp4", lambda count, fps: range(count))
    assert numbers(frames.pixels) == [0, 10, 20, 29, 39, 49]
    assert frames.pixels.shape[1:3] == (60, 92)  # even, as H.264 wants it
    assert frames.fps == pytest.approx(25 * 5 / 49, rel=0.01)


@pytest.mark.parametrize(("wanted", "kind"), [("video", "image_url"), ("audio", "input_audio")])
def test_only_what_is_wanted_is_sent(clip, wanted, kind):
    content = sent(clip, modalities=wanted)["messages"][0]["content"]
    assert {part["type"] for part in content} == {kind, "text"}


def test_what_is_sent_is_bounded(clip):
    request = sent(clip, frames=2, longest_side=60, seconds=0.5)
    first, _, sound, _ = request["messages"][0]["content"]
    assert Image.open(io.BytesIO(data_of(first))).size == (60, 40)
    samples, _ = soundfile.read(io.BytesIO(b64decode(sound["input_audio"]["data"])))
    assert len(samples) == 8000
    coarse = sent(clip, frames=2, longest_side=60, jpeg_quality=5)
    assert len(data_of(coarse["messages"][0]["content"][0])) < len(data_of(first))


def test_settings_of_the_request_can_be_added_and_left_out(clip):
    others = {"temperature": None, "reasoning_effort": "low"}
    request = sent(clip, parameters=others, system="Be brief.")
    assert request["reasoning_effort"] == "low"
    assert "temperature" not in request
    assert request["messages"][0] == {"role": "system", "content": "Be brief."}


def test_a_sampled_answer_has_the_seed_of_its_clip(clip):
    generation = GenerationSettings(do_sample=True, temperature=0.7, top_p=0.8, stop=["\n"])
    with serving(lambda n, request: "x") as server:
        adapter = loaded(server, Served(model=MODEL, generation=generation))
        list(described(adapter, clip, "ab"))
    first, second = server.requests
    assert first["seed"] != second["seed"]
    assert 0 <= first["seed"] < 2**31
    assert (first["temperature"], first["top_p"], first["stop"]) == (0.7, 0.8, ["\n"])


def test_an_answer_says_what_its_server_does_not_know(clip):
    def script(n, request):
        if "top_k" in request:
            return error(400, "Unrecognized request argument supplied: top_k")
        return "She smiles."

    with serving(script) as server:
        adapter = loaded(server, Served(model=MODEL))
        found = list(described(adapter, clip, "ab"))
    assert [each.description for each in found] == ["She smiles."] * 2
    notes = {note for each in found for note in each.notes}
    assert "the server does not know top_k; asked without" in notes


def described(adapter, clip, names=NAMES, batch_size=2):
    requests = [ClipRequest(name, *clip, f"I am {name}.", (), {}) for name in names]
    pipeline = Pipeline(adapter, seed=0, batch_size=batch_size, workers=2)
    return pipeline.describe(requests)


def name_of(request) -> str:
    words = request["messages"][-1]["content"][-1]["text"]
    return next(name for name in NAMES if f"I am {name}." in words)


def test_every_clip_gets_its_own_answer_though_many_are_in_flight(clip):
    with serving(lambda n, request: f"This is {name_of(request)}.") as server:
        found = list(described(loaded(server), clip))
    assert {each.name: each.description for each in found} == {n: f"This is {n}." for n in NAMES}
    assert found[0].prompt_tokens == 9


def test_what_is_in_flight_does_not_wait_for_the_next_clip_to_be_read(clip):
    is_answered = threading.Event()

    def items(adapter):
        yield adapter.prepare(*clip, "I am a.")
        assert is_answered.wait(20)
        yield adapter.prepare(*clip, "I am b.")

    with serving(lambda n, request: name_of(request)) as server:
        adapter = loaded(server)
        answers = adapter.stream(items(adapter))
        assert next(answers)[1].text == "a"
        is_answered.set()
        assert next(answers)[1].text == "b"


def answer(content, reason="stop", **message):
    body = json.loads(completion(content, reason).body)
    body["choices"][0]["message"] |= message
    return Misbehaviour(body=json.dumps(body))


@pytest.mark.parametrize(
    ("said", "record"),
    [
        (answer("<think>A frown.</think>\n\nAngry."), (Status.OK, "Angry.", "A frown.", ())),
        (answer("Angry.", reasoning="A frown."), (Status.OK, "Angry.", "A frown.", ())),
        (answer("Angry.", reasoning_content="A frown."), (Status.OK, "Angry.", "A frown.", ())),
        (answer("So\nangry and"), (Status.OK, "So angry and", "", ())),
        (
            answer("Angry and", "length"),
            (Status.OK, "Angry and", "", ("the answer was cut at 512 tokens",)),
        ),
        (answer("<think>A fro", "length"), (Status.EMPTY, "", "A fro", (CUT_WHILE_THINKING,))),
        (
            answer(None, "length", reasoning="A fro"),
            (Status.EMPTY, "", "A fro", (CUT_WHILE_THINKING,)),
        ),
        (answer(""), (Status.EMPTY, "", "", ())),
    ],
    ids="think reasoning reasoning_content lines cut cut-thinking cut-reasoning empty".split(),
)
def test_thinking_and_limits_are_recorded_as_such(clip, said, record):
    with serving(lambda n, request: said) as server:
        (found,) = described(loaded(server), clip, "a")
    assert (found.status, found.description, found.thinking, found.notes) == record


@pytest.mark.parametrize(
    ("trouble", "status", "sentence"),
    [
        (answer("", "content_filter"), Status.REFUSED, "withheld its answer (content_filter)"),
        (answer(None, refusal="I can't."), Status.REFUSED, "withheld its answer (I can't.)"),
        (error(400, "9000 tokens"), Status.REFUSED, "refused the question with 400 (9000 tokens)"),
        (error(413, "too large"), Status.REFUSED, "refused the question with 413 (too large)"),
        (error(500, "oops"), Status.CRASHED, "the server failed with 500 (oops)"),
        (Misbehaviour(body="{"), Status.CRASHED, "the server's answer is no completion in JSON"),
        (Misbehaviour(drip=True), Status.TIMEOUT, "the server gave no answer within 1 s"),
    ],
    ids="filtered refused 400 413 500 torn-json endless".split(),
)
def test_an_answer_that_is_none_is_recorded_and_leaves_the_others_alone(
    clip, trouble, status, sentence
):
    def script(n, request):
        return trouble if name_of(request) == "c" else "Happy."

    with serving(script) as server:
        adapter = loaded(server, timeout=1.0 if trouble.drip else 20.0)
        found = {each.name: each for each in described(adapter, clip)}
    failed = found.pop("c")
    assert failed.status is status
    assert sentence in failed.error
    assert {each.description for each in found.values()} == {"Happy."}


@pytest.mark.parametrize(
    "trouble", [error(429, "slow down"), error(503, "busy"), Misbehaviour(hang_up=True)]
)
def test_trouble_that_passes_leaves_no_trace(clip, trouble):
    with serving(lambda n, request: "Happy." if n else trouble) as server:
        (found,) = described(loaded(server), clip, "a")
    assert (found.status, found.notes) == (Status.OK, ())


def test_a_server_that_goes_away_keeps_what_it_answered(clip):
    with serving(lambda n, r: "Happy." if n < 3 else Misbehaviour(gone=True)) as server:
        predictions = described(loaded(server, concurrency=1), clip)
        assert [next(predictions).status for _ in range(3)] == [Status.OK] * 3
        with pytest.raises(PrerequisiteError, match=r"stopped answering .* goes on from there"):
            next(predictions)


def test_a_server_that_is_not_there_ends_the_run_before_its_first_clip(clip):
    with serving(lambda n, request: "") as server:
        pass
    with pytest.raises(PrerequisiteError, match=r"no server answers .*correct engine\.base_url"):
        next(described(loaded(server), clip))


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(clip, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    with serving(lambda n, request: error(401, "wrong key sk-secret")) as server:
        adapter = loaded(server, key_variable="MY_KEY")
        with pytest.raises(PrerequisiteError, match=r"refuses the key in .* MY_KEY") as caught:
            next(described(adapter, clip))
    assert set(server.keys) == {"Bearer sk-secret"}
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"picture": "film"}, "baseline.picture is 'film'; choose from video, images"),
        ({"longest_side": 4}, "baseline.longest_side is 4 but must be 16 to 8192"),
        ({"jpeg_quality": 100}, "baseline.jpeg_quality is 100 but must be 1 to 95"),
    ],
)
def test_a_wrong_setting_is_reported_at_once(fields, sentence):
    with pytest.raises(PrerequisiteError, match=sentence):
        Served(model=MODEL, **fields)


@pytest.mark.parametrize(
    ("engine", "sentence"),
    [
        ({"name": "vllm"}, "asks a server, but engine=vllm was chosen; say engine=server"),
        ({"concurrency": 0}, "engine.concurrency is 0; give at least 1"),
        ({"concurrency": "many"}, "engine.concurrency: Value 'many' of type 'str' could not"),
    ],
)
def test_a_wrong_engine_is_reported_before_the_first_clip(engine, sentence):
    with pytest.raises(PrerequisiteError, match=sentence):
        loaded(**engine)


def test_a_model_that_is_not_named_is_reported_before_the_first_clip():
    with pytest.raises(PrerequisiteError, match=r"baseline.model is missing: the model's name"):
        loaded(adapter=Served())


@pytest.mark.parametrize(
    ("fields", "vllm", "sentence"),
    [
        (
            {"num_beams": 4},
            True,
            "num_beams of the generation preset cannot be asked of this server",
        ),
        (
            {"top_k": 50, "do_sample": True},
            False,
            "top_k of the generation preset .* or set top_k to 0",
        ),
    ],
)
def test_what_a_server_cannot_do_is_no_silent_default(fields, vllm, sentence):
    settings = ServerSettings(vllm_parameters=vllm)
    with pytest.raises(PrerequisiteError, match=sentence):
        chat_parameters(GenerationSettings(**fields), settings)


def test_a_hosted_model_is_sent_what_all_servers_know():
    settings = ServerSettings(vllm_parameters=False, limit_parameter="max_completion_tokens")
    asked = chat_parameters(GenerationSettings(max_new_tokens=9), settings)
    assert asked == {"temperature": 0.0, "top_p": 1.0, "max_completion_tokens": 9}


def test_a_dry_run_asks_no_server_but_one_of_its_own(clip, tmp_path):
    adapter = Served(frames=3).miniature(tmp_path)
    try:
        adapter.load(Machine(engine={"name": "server", "base_url": "http://127.0.0.1:9/v1"}))
        (found,) = described(adapter, clip, "a")
    finally:
        adapter.close()
    assert found.description == "A dry run; the server was sent 3 image, 1 sound, 1 text."


def test_a_model_that_runs_here_can_be_asked_on_a_server_instead():
    plain = job("baseline=qwen2_5_omni", "baseline.frames=3")
    asked = job("baseline=qwen2_5_omni", "baseline.frames=3", "engine=server")
    assert isinstance(plain.adapter, Native)
    assert isinstance(asked.adapter, Served)
    for key in ("frames", "modalities", "prompts", "picture", "generation"):
        assert getattr(asked.adapter, key) == getattr(plain.adapter, key)
    assert asked.adapter.model == "Qwen/Qwen2.5-Omni-7B"
    assert asked.identity["engine"] == "server"
    asked.adapter.load(asked.machine)


def test_the_baseline_brings_its_engine_and_its_time_limits_are_none_of_its_identity():
    plain = job("baseline=served", "baseline.model=a")
    hasty = job("baseline=served", "baseline.model=a", "engine.timeout=9", "engine.base_url=x")
    assert plain.machine.engine["name"] == "server"
    assert plain.identity == hasty.identity
    assert plain.identity != job("baseline=served", "baseline.model=b").identity
    assert job("baseline=lexicon").machine.engine["name"] == "transformers"
