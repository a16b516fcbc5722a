"""Extraction as a stage of a run: protocols, seeds, failures, resume, and reading again."""

import json
from collections import Counter
from pathlib import Path

import pytest

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.data import read_dataset
from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.job import Job
from ovmer.runners.sweeping.jobs import run_jobs
from ovmer.runners.sweeping.state import look
from ovmer.runners.sweeping.work import work
from tests.extraction.fake_server import Misbehaviour, error, serving
from tests.runners.conftest import Command, command, data
from tests.runners.jobs import job

__all__ = ["command", "data"]  # fixtures

WORDS = ("happy", "sad", "angry", "worried")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.02)


@pytest.fixture
def base(data: Path, tmp_path: Path) -> list[str]:
    return ["dataset=ovmerd", f"dataset.root={data}", f"outputs={tmp_path / 'out'}"]


def asking(url: str, *more: str) -> list[str]:
    return [
        "extractor=qwen25",
        "engine@extractor.engine=server",
        "extractor.model=mini",
        f"extractor.engine.base_url={url}",
        "extractor.engine.retries=1",
        *more,
    ]


def spoken(names: str) -> list[str]:
    """The fake model says something of its own about each of these clips."""
    said = ", ".join(f"{name}: '{name} is glad.'" for name in names)
    return [f"+baseline.answers={{{said}}}"]


def prompt_of(request: dict) -> str:
    return request["messages"][0]["content"]


def by_length(n: int, request: dict) -> str:
    """A model of sorts: its words depend on question and seed alone."""
    prompt = prompt_of(request)
    if "merge all" in prompt:
        return f"Both together: {prompt[-40:]}"
    return f"[{WORDS[(len(prompt) + request.get('seed', 0)) % 4]}]"


def labels_of(made: Job) -> list[dict]:
    return [json.loads(line) for line in (made.folder / "labels.jsonl").read_text().splitlines()]


def state_of(made: Job):
    return look(made, read_dataset(made.settings.dataset))


def test_a_sweep_asks_the_language_model_and_never_again(base: list[str], capsys):
    with serving(by_length) as server:
        made = job("baseline=scripted", *base, *asking(server.url))
        assert run_jobs([made]) == 0
        table = capsys.readouterr().out
        assert "extractor=qwen25" in table
        assert "qwen25: mini on server, greedy, repetition penalty 1.05" in table
        assert len(server.requests) == 1  # the fake model says one thing of all six clips
        (made.folder / "labels.jsonl").unlink()
        assert run_jobs([made]) == 0
        assert len(server.requests) == 1
    assert len(labels_of(made)) == 6


def test_merged_and_unmerged_rows_share_descriptions_and_are_separate(base: list[str], capsys):
    with serving(by_length) as server:
        jobs = [
            job("baseline=scripted", f"subtitle={protocol}", *base, *asking(server.url))
            for protocol in ("none", "merge")
        ]
        for made in jobs:
            assert work(made).is_fine
        assert run_jobs(jobs) == 0
    assert jobs[0].folder == jobs[1].folder
    assert len((jobs[0].folder / "predictions.jsonl").read_text().splitlines()) == 6
    assert [bool(each["trail"].get("merge")) for each in labels_of(jobs[0])] == [False] * 6 + [
        True
    ] * 6
    merged = [prompt_of(each) for each in server.requests if "merge all" in prompt_of(each)]
    assert any("Subtitle: I am sad." in each for each in merged)
    assert any(
        each.endswith("Output: ") and "Both together" in each
        for each in map(prompt_of, server.requests)
    )
    table = capsys.readouterr().out
    assert "subtitle" in table.splitlines()[0]
    assert {"qwen25-mini/wheel", "qwen25-mini-merge/wheel"} == set(state_of(jobs[0]).all_scores)


def test_extraction_under_several_seeds_gives_mean_and_spread(base: list[str], capsys):
    seeds = ["extractor.sampling=paper", "extractor.seeds=[0,1,2]"]
    with serving(by_length) as server:
        made = job("baseline=scripted", *base, *spoken("abcdef"), *asking(server.url, *seeds))
        assert run_jobs([made]) == 0
        temperatures = {each["temperature"] for each in server.requests}
    table = capsys.readouterr().out
    assert " ± " in table
    assert "±: standard deviation over 3 seeds of the extractor" in table
    assert "qwen25: mini on server, temperature 0.7, top_p 0.8, repetition penalty 1.05" in table
    assert temperatures == {0.7}
    entry = state_of(made).scores
    figures = [repeat["level1"] for repeat in entry.repeats]
    assert len(set(figures)) > 1
    assert entry.figures["level1"] == pytest.approx(sum(figures) / 3)


def test_seeds_without_dice_are_refused(base: list[str]):
    made = job("baseline=lexicon", *base, *asking("http://x/v1", "extractor.seeds=[0,1]"))
    with pytest.raises(PrerequisiteError, match=r"add extractor\.sampling=paper"):
        state_of(made)


def test_merging_needs_a_language_model(base: list[str]):
    with pytest.raises(PrerequisiteError, match="subtitle=merge needs a language model"):
        state_of(job("baseline=scripted", "subtitle=merge", *base))


def test_a_server_that_stops_half_way_is_asked_for_the_rest_only(base: list[str], capsys):
    answers = ["baseline=scripted", *base, *spoken("abcdef")]

    def stops(n: int, request: dict) -> str | Misbehaviour:
        return by_length(n, request) if n < 3 else Misbehaviour(gone=True)

    alone = "extractor.engine.concurrency=1"
    with serving(stops) as server:
        made = job(*answers, *asking(server.url, alone))
        with pytest.raises(PrerequisiteError, match=r"stopped answering .* goes on from there"):
            run_jobs([made])
        first = [prompt_of(each) for each in server.requests[:3]]
    assert len(labels_of(made)) == 3
    assert not state_of(made).is_done
    with serving(by_length) as server:
        moved = job(*answers, *asking(server.url, alone))
        assert run_jobs([moved]) == 0
        rest = [prompt_of(each) for each in server.requests]
    assert Counter(first + rest).most_common(1)[0][1] == 1
    assert len(first + rest) == 6


def test_a_question_that_fails_is_reported_and_asked_again(base: list[str], capsys):
    answers = spoken("ab")

    def refuses(n: int, request: dict) -> str | Misbehaviour:
        return error(400, "too long") if "b is glad" in prompt_of(request) else "[happy]"

    with serving(refuses) as server:
        made = job("baseline=scripted", *base, *answers, *asking(server.url))
        assert run_jobs([made]) == 1
    told = capsys.readouterr().err
    assert "1 descriptions have no labels yet; b: labels: the server refused" in told
    failed = [each for each in labels_of(made) if each["error"]]
    assert [each["name"] for each in failed] == ["b"]
    with serving(by_length) as server:
        assert run_jobs([job("baseline=scripted", *base, *answers, *asking(server.url))]) == 0
        assert [prompt_of(each)[-30:].count("b is glad") for each in server.requests] == [1]


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ("", "6 of 6 descriptions: labels: the answer is empty (a, b, c, d, e, ...; see"),
        ("[高兴]", "labels: the answer is in Chinese, which no wheel knows"),
    ],
)
def test_odd_answers_are_counted_and_listed(base: list[str], capsys, reply: str, told: str):
    with serving(lambda n, request: reply) as server:
        made = job("baseline=scripted", *base, *asking(server.url))
        assert run_jobs([made]) == 0
    assert told in capsys.readouterr().err
    assert {each["raw"] for each in labels_of(made)} == {reply}


def test_no_file_of_a_run_holds_the_key(base: list[str], tmp_path: Path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with serving(by_length) as server:
        made = job("baseline=scripted", *base, *asking(server.url))
        work(made)
    assert server.keys == ["Bearer sk-secret"]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "run.json" for path in files)
    assert not [path for path in files if b"sk-secret" in path.read_bytes()]


def test_another_extractor_reads_what_is_there(
    base: list[str], command: Command, data: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(data)  # the command below runs in another folder
    made = job("baseline=scripted", base[0], "dataset.root=.", base[2])
    work(made)
    before = (made.folder / "predictions.jsonl").read_bytes()
    with serving(by_length) as server:
        ran = command("extract", str(made.folder), *asking(server.url))
        again = command("extract", str(made.folder), *asking(server.url))
        asked = len(server.requests)
    assert ran.returncode == again.returncode == 0
    assert asked == 1
    assert "extractor=qwen25" in ran.stdout
    assert again.stdout == ran.stdout
    assert (made.folder / "predictions.jsonl").read_bytes() == before
    assert set(RunFolder(made.folder).read_scores()) == {"lexicon/wheel", "qwen25-mini/wheel"}
    assert len(labels_of(made)) == 12
    assert state_of(made).readings[0].found  # the first extractor's are still there


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["extractor=qwen25"], "name the run folders to read"),
        (["{folder}", "baseline=empty"], "baseline=empty: ovmer extract takes extractor"),
        (["{root}", "extractor=lexicon"], "is no run folder: it holds no run.json"),
        (["{folder}", "subtitle=merge", "extractor=qwen25"], "was asked with the subtitle in the"),
        (["{folder}", "extractor=qwen26"], "there is no extractor=qwen26; did you mean qwen25"),
    ],
)
def test_what_cannot_be_read_again_is_reported(
    base: list[str], command: Command, tmp_path: Path, arguments: list[str], sentence: str
):
    made = job("baseline=scripted", *base)
    work(made)
    ran = command(
        "extract",
        *(each.format(folder=made.folder, root=tmp_path) for each in arguments),
    )
    assert ran.returncode == 2
    assert sentence in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_clues_of_two_runs_are_merged_with_the_subtitle(base: list[str]):
    with serving(by_length) as server:
        parts = []
        for word in ("smiles", "sighs"):
            part = job("baseline=scripted", "subtitle=none", f"baseline.default=She {word}.", *base)
            work(part)
            parts.append(str(part.folder))
        runs = f"baseline.runs=[{','.join(parts)}]"
        both = job("baseline=combined", runs, "subtitle=merge", *base, *asking(server.url))
        assert work(both).is_fine
        asked = [prompt_of(each) for each in server.requests]
    assert any("Clue: She smiles.；She sighs.；Subtitle: I am sad." in each for each in asked)


def test_combined_clues_follow_their_parts(base: list[str]):
    part = job("baseline=scripted", "subtitle=none", "+baseline.generate_fails.b=refused", *base)
    work(part)
    mended = job("baseline=scripted", "subtitle=none", *base, "variant=other")
    work(mended)
    both = job("baseline=combined", f"baseline.runs=[{part.folder},{mended.folder}]", *base)
    state = work(both)
    (failed,) = (each for each in state.predictions.values() if each.failed)
    assert failed.name == "b"
    assert "has no description of this clip; run that baseline first" in failed.error


def test_clues_of_a_run_that_is_not_there_are_one_sentence(base: list[str], tmp_path: Path):
    gone = tmp_path / "gone"
    with pytest.raises(PrerequisiteError, match=f"there is no run folder {gone} to take clues"):
        work(job("baseline=combined", f"baseline.runs=[{gone},{gone}]", *base))
