"""The judge: what it is asked, what is kept, and what becomes of answers in prose."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ovmer.baselines.decoding.answers import Generated
from ovmer.baselines.decoding.language_model import LanguageModel
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import ClipError, PrerequisiteError
from ovmer.runners.extraction.base import ClipDescription
from ovmer.runners.extraction.judge import JudgeEngine, JudgeExtractor, JudgeSettings
from ovmer.runners.extraction.make import make_extractors
from ovmer.runners.scoring import make_metric
from tests.data.benchmark_layouts import VIDEOS
from tests.runners.jobs import job


class Engine:
    """Answers by what the question holds, and keeps what it was asked."""

    identity: Mapping[str, Any] = {"engine": "fake", "model": "judge-1"}

    def __init__(self, answers: Mapping[str, str | ClipError]) -> None:
        self.answers = answers
        self.asked: list[Any] = []

    def stream(self, asked: Any) -> Iterator[tuple[int, Generated | ClipError]]:
        for key, (chat, _) in asked:
            self.asked.append(chat)
            text = json.dumps(chat)
            answer = next(each for mark, each in self.answers.items() if mark in text)
            yield key, answer if isinstance(answer, ClipError) else Generated(answer)

    def close(self) -> None:
        pass


def judge(engine: Engine, cache: Path, chats: bool = True, **settings: Any) -> JudgeExtractor:
    model = LanguageModel(JudgeEngine(engine, chats), GenerationSettings(), cache)
    return JudgeExtractor("judge", model, JudgeSettings(**settings))


REPLY = ClipDescription("a", "She smiles, so she is happy.", truth=("happy",), video=VIDEOS[0])
MME = {"extract several key steps": "<step>Step 1: smile. Step 2: happy.</step>"}


def test_mme_emotion_is_asked_in_two_passes_with_frames(tmp_path: Path) -> None:
    engine = Engine({**MME, "rate the performance": "<score>Step 1: 0/1, Step 2: 1/1</score>"})
    clues = tmp_path / "clues.json"
    clues.write_text(json.dumps([{"video_id": "a", "audio_clue": "a calm voice"}]))
    kind = {"kind": "mme_emotion", "variant": "ER-Lab", "audio_clues": str(clues)}
    made = judge(engine, tmp_path, **kind)
    (found,) = made.extract([REPLY])
    assert found.labels == ("<score>Step 1: 0/1, Step 2: 1/1</score>",)
    assert found.trail == {"steps": "<step>Step 1: smile. Step 2: happy.</step>"}
    assert not found.notes
    first, second = engine.asked
    assert first[0]["role"] == "system"
    assert REPLY.text in first[1]["content"][0]["text"]
    kinds = [part["type"] for part in second[1]["content"]]
    assert kinds[0] == "text"
    assert 1 <= kinds.count("image_url") <= 10
    question = second[1]["content"][0]["text"]
    assert "'a calm voice'" in question
    assert "Emotion label: 'happy'" in question
    assert "Step 2: happy." in question
    (again,) = judge(Engine({}), tmp_path, **kind).extract([REPLY])  # from the cache
    assert again.labels == found.labels
    metric = make_metric(job("dataset=mme_emotion_er_lab").settings.metric)
    scores = metric.score({"a": found.labels}, {"a": {"truth": ["happy"]}})
    assert scores.figures["mme_emotion/recognition"] == 1
    assert scores.figures["mme_emotion/reasoning"] == 0


def test_a_video_that_cannot_be_read_is_a_failure_of_its_clip(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    items = [replace(REPLY, name="b", video=broken), REPLY, replace(REPLY, name="c", video=None)]
    engine = Engine({**MME, "rate the performance": "<score>Step 1: 1/1</score>"})
    found = {
        each.name: each
        for each in judge(engine, tmp_path, kind="mme_emotion", variant="SA").extract(items)
    }
    assert found["b"].labels == ()
    assert str(found["b"].error).startswith("judge: ")
    assert "broken.mp4" in str(found["b"].error)
    assert found["a"].labels == found["c"].labels == ("<score>Step 1: 1/1</score>",)
    assert "judged without frames, as the clip has no video" in found["c"].notes


def test_other_sentences_on_the_sound_are_another_judge(tmp_path: Path) -> None:
    def identity(file: str | None) -> object:
        kind = {"kind": "mme_emotion", "variant": "ER-Lab", "audio_clues": file}
        return judge(Engine({}), tmp_path, **kind).identity["judge"]["audio_clues"]

    found = []
    for clue in ("a calm voice", "a loud voice"):
        clues = tmp_path / "clues.json"
        clues.write_text(json.dumps([{"video_id": "a", "audio_clue": clue}]))
        found.append(identity(str(clues)))
    assert found[0] != found[1]
    assert identity(None) is False


def test_a_judge_that_answers_in_prose_is_counted_as_unknown(tmp_path: Path) -> None:
    engine = Engine({**MME, "rate the performance": "I think the answer is very good."})
    (found,) = judge(engine, tmp_path, kind="mme_emotion", variant="SA").extract([REPLY])
    assert "judged without a sentence on the sound" in found.notes
    metric = make_metric(job("dataset=mme_emotion_sa").settings.metric)
    scores = metric.score({"a": found.labels}, {"a": {"truth": ["happy"]}})
    assert scores.figures["mme_emotion/unknown"] == 1
    assert not scores.n_counted


@pytest.mark.parametrize("failing", ["extract several key steps", "rate the performance"])
def test_a_failed_judgement_is_kept_with_its_reason(failing: str, tmp_path: Path) -> None:
    answers = {**MME, "rate the performance": "<score>Step 1: 1/1</score>"}
    engine = Engine({**answers, failing: ClipError("the server refused")})
    (found,) = judge(engine, tmp_path, kind="mme_emotion", variant="IR").extract([REPLY])
    assert found.labels == ()
    assert found.error == "judge: the server refused"


def test_laughter_is_two_questions_of_text(tmp_path: Path) -> None:
    engine = Engine({"**Logical": "Logical Judgment Dimension: 4", "**Multimodal": "4 of 5"})
    item = ClipDescription("a", "because he fell", truth=("The audience laughed because he fell.",))
    (found,) = judge(engine, tmp_path, kind="laughter").extract([item])
    assert len(engine.asked) == 2
    assert "Reference Reason: The audience laughed because he fell." in engine.asked[0]
    metric = make_metric(job("dataset=emobench_m_smile", "extractor=judge").settings.metric)
    scores = metric.score({"a": found.labels}, {"a": {"truth": list(item.truth)}})
    assert scores.figures["judge/logical"] == pytest.approx(4 / 5)
    assert scores.figures["judge/multimodal"] == 0
    assert scores.figures["judge/unknown"] == 1


def test_each_seed_is_a_judge_of_its_own() -> None:
    sampled = ("dataset=emobench_m_smile", "extractor=judge", "extractor.sampling=paper")
    settings = job(*sampled, "extractor.seeds=[0,1]", "dry_run=true").settings.extractor
    first, second = make_extractors(settings)
    assert (first.identity["seed"], second.identity["seed"]) == (0, 1)


def test_frames_need_a_server(tmp_path: Path) -> None:
    made = judge(Engine(MME), tmp_path, chats=False, kind="mme_emotion", variant="SA")
    with pytest.raises(PrerequisiteError, match=r"behind a server.*task\.judge\.frames=false"):
        list(made.extract([REPLY]))


def test_model_and_protocol_are_part_of_the_identity(tmp_path: Path) -> None:
    identity = judge(Engine({}), tmp_path, kind="mme_emotion", variant="SA").identity
    assert identity["model"] == "judge-1"
    assert identity["judge"]["variant"] == "SA"
    assert identity["judge"]["frames"] is True


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("dataset=dfew", "extractor=judge"), "extractor=judge needs a task with a judge"),
        (
            ("dataset=mme_emotion_sa", "extractor=judge", "task.judge.variant=S"),
            "task.judge.variant is 'S'",
        ),
        (
            ("dataset=mme_emotion_sa", "extractor=judge", "+task.judge.varient=SA"),
            r"there is no key task\.judge\.varient; did you mean variant",
        ),
    ],
)
def test_mistakes_are_one_sentence(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(PrerequisiteError, match=message):
        make_extractors(job(*overrides).settings.extractor)
