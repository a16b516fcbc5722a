"""A task from the question to the figures: what is put to a model, what the folder holds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from ovmer.adapters.base import Adapter, Prepared
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.describing.pipeline import Pipeline
from ovmer.runners.describing.requests import ClipRequest
from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.sweeping.work import work
from tests.data import benchmark_layouts as layouts
from tests.runners.jobs import job

REPLIES = {"1": "happy", "2": "Sad.", "3": "I see fear, not happiness"}


class Echo(Adapter):
    """Says what it was asked."""

    question = "its own"

    def asking(self, question: str) -> Self:
        asked = type(self)()
        asked.question = question
        return asked

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        return Prepared(self.question)

    def generate(self, batch: list[Prepared]) -> Sequence[str]:
        return [item.inputs for item in batch]


def test_each_clip_is_asked_its_own_question() -> None:
    questions = [None, "Why?", *(f"Question {i}" for i in range(50))]
    requests = [
        ClipRequest(str(i), Path("a.mp4"), None, None, (), {}, question=question)
        for i, question in enumerate(questions)
    ]
    pipeline = Pipeline(Echo(), seed=0, batch_size=8, workers=4)
    answers = [each.description for each in pipeline.describe(requests)]
    assert answers == ["its own", *questions[1:]]


@pytest.mark.parametrize("baseline", ["video_llava", "qwen2_5_omni", "onellm", "served"])
def test_the_question_replaces_the_baselines_own(baseline: str) -> None:
    engine = ["engine=server"] if baseline == "served" else []
    adapter: Any = job(f"baseline={baseline}", *engine).adapter
    asked = adapter.asking("Which one?")
    prompts = getattr(asked, "prompts", None) or {"": asked.prompt}
    assert {each.about(None) for each in prompts.values()} == {"Which one?"}
    own = getattr(adapter, "prompts", None) or {"": adapter.prompt}
    assert "Which one?" not in {each.about(None) for each in own.values()}


@pytest.mark.parametrize("baseline", ["affectgpt", "emotion_llama"])
def test_what_the_authors_put_around_their_request_stays(baseline: str) -> None:
    adapter: Any = job(f"baseline={baseline}").adapter
    asked = adapter.asking("Which one?")
    assert set(asked.requests.values()) == {"Which one?"}
    assert asked.prompt == adapter.prompt
    assert "Which one?" not in adapter.requests.values()


def test_a_worker_is_sent_the_question() -> None:
    adapter = job("baseline=external").adapter
    asked = adapter.asking("Which one?").prepare(None, None, None)
    assert asked.inputs == (None, None, None, "Which one?")
    assert adapter.prepare(None, None, None).inputs[3] is None


def dfew(tmp_path: Path, *overrides: str) -> Any:
    return job(
        "dataset=dfew", "dataset.rows.fold=1", f"data_root={tmp_path}", f"outputs={tmp_path}/o",
        "baseline=scripted", *overrides,
    )  # fmt: skip


def test_a_run_is_scored_by_every_protocol_of_its_task(tmp_path: Path) -> None:
    layouts.dfew(tmp_path / "DFEW")
    made = dfew(tmp_path)
    made.settings.baseline["answers"] = REPLIES
    work(made)
    (scores,) = RunFolder(made.folder).read_scores().values()
    assert scores.metric == "dfew"
    figures = scores.figures
    assert figures["humanomni/WAR"] == pytest.approx(1 / 3)
    assert figures["careful/WAR"] == 1
    assert figures["careful/unknown"] == 0
    assert figures["humanomni/unknown"] == pytest.approx(2 / 3)
    assert "careful/UAR" in scores.intervals
    info = json.loads((made.folder / "run.json").read_text("utf-8"))
    assert info["identity"]["task"]["question"].startswith("As an emotional recognition expert")


def test_another_task_is_another_run(tmp_path: Path) -> None:
    layouts.dfew(tmp_path / "DFEW")
    first = dfew(tmp_path)
    second = dfew(tmp_path, "task=dfew_emotion_qwen")
    assert first.folder.name == "scripted"
    assert second.folder.name == "scripted-dfew_emotion_qwen"
    assert first.identity != second.identity
    third = job("task=closed_set", "choices=[happy,sad]", "baseline=scripted")
    assert third.folder.name == "scripted-closed_set-happy+sad"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("baseline=lexicon",), "baseline=lexicon puts no question, so task=dfew cannot be asked"),
        (("subtitle=merge",), "subtitle=merge is for descriptions"),
        (("task=question",), "no question; give question="),
        (("task.form=letters",), "task.form is 'letters'"),
    ],
)
def test_mistakes_are_one_sentence_before_anything_runs(
    overrides: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    layouts.dfew(tmp_path / "DFEW")
    with pytest.raises(PrerequisiteError, match=message):
        work(dfew(tmp_path, *overrides))


def test_random_draws_from_the_labels_of_a_task(tmp_path: Path) -> None:
    layouts.dfew(tmp_path / "DFEW", labels=(1, 2, 3, 4, 5, 6, 7, 1))
    made = dfew(tmp_path, "baseline=random", "dataset.rows.fold=all")
    work(made)
    said = {each.description for each in RunFolder(made.folder).read_predictions().values()}
    assert said == {"happy", "sad", "neutral", "angry", "surprise", "disgust", "fear"}
    (scores,) = RunFolder(made.folder).read_scores().values()
    assert scores.figures["humanomni/unknown"] == 0


@pytest.mark.parametrize("name", ["mafw", "ravdess"])
def test_every_rule_of_a_task_reads_the_words_that_random_draws(name: str, tmp_path: Path) -> None:
    layouts.LAYOUTS[name][1](tmp_path / Path(layouts.LAYOUTS[name][0]).name)
    made = job(
        f"dataset={name}", f"data_root={tmp_path}", f"outputs={tmp_path}/o", "baseline=random",
        "dataset.rows.fold=all",
    )  # fmt: skip
    work(made)
    (scores,) = RunFolder(made.folder).read_scores().values()
    unknown = {key: value for key, value in scores.figures.items() if key.endswith("/unknown")}
    assert len(unknown) > 1
    assert set(unknown.values()) == {0.0}


def test_random_draws_a_label_for_each_part_of_an_answer(tmp_path: Path) -> None:
    layouts.LAYOUTS["emobench_m_mc_eiu"][1](tmp_path / "EmoBench-M")
    made = job(
        "dataset=emobench_m_mc_eiu", f"data_root={tmp_path}", f"outputs={tmp_path}/o",
        "baseline=random",
    )  # fmt: skip
    work(made)
    (scores,) = RunFolder(made.folder).read_scores().values()
    assert scores.figures["careful/unknown"] == 0


def test_random_is_refused_where_an_answer_is_free_text(tmp_path: Path) -> None:
    made = job("task=question", "question=Why?", "baseline=random", f"outputs={tmp_path}")
    with pytest.raises(PrerequisiteError, match="task=question has none to choose from"):
        work(made)


def test_open_labels_in_one_step(tmp_path: Path) -> None:
    made = job(
        "task=open_vocabulary", "baseline=scripted", "baseline.default='happy, a bit shy'",
        f"outputs={tmp_path}", "dataset.clips=[good_news]",
    )  # fmt: skip
    work(made)
    (line,) = (made.folder / "labels.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line)["labels"] == ["happy", "a bit shy"]
