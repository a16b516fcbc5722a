"""Prompts and answers with the published tokenizers, against ids of the authors' own code.

`--golden-tokens-root DIR` holds a MODEL.json for each port (rows of a subtitle and the ids of the
whole prompt, rows of an answer's ids and the text that is recorded of it), extraction.json and
llama_vid_bert.json; `--tokenizers-root DIR` holds the tokenizer files, which are not ours to ship.
Without them these tests are skipped.

A row says where we differ by design: a subtitle that spells a control token stays words here, and a
long one is cut to the context, so that the beginning of the prompt is never lost.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovmer.adapters.mllm import Mllm
from ovmer.baselines.chat import ChatTokenizer
from ovmer.runners.extraction.steps import STEPS
from tests.adapters.media_files import tone, write_video, write_wav
from tests.golden_tokens import prompt_ids, published, published_qwen2, recorded

NOT_A_MODEL = ("extraction", "llama_vid_bert")
DESIGN, CUT, NO_PROMPT = "differs by design", "cut to the context", "original has no such prompt"
FRAMES, SECONDS = 417, 9.7
"""Picture (at 25 fps) and sound of the clip with which the prompts were recorded. VideoChat's tells
the times of the frames, and the sound's length is what Qwen-Audio's leaves to the subtitle."""

LLAMA_WORDS, QWEN2_WORDS = 32000, 151643  # beyond them are the tokens that a port added

Row = dict[str, Any]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    root = metafunc.config.getoption("golden_tokens_root")
    files = sorted(root.glob("*.json")) if root and root.is_dir() else []
    if "model" in metafunc.fixturenames:
        names = [file.stem for file in files if file.stem not in NOT_A_MODEL]
        metafunc.parametrize("model", names or [None])
    if "step" in metafunc.fixturenames:
        steps = list(_read(root, "extraction")["steps"]) if files else [None]
        metafunc.parametrize("step", steps)


def _read(root: Path, name: str) -> dict[str, Any]:
    file = root / f"{name}.json"
    if not file.is_file():
        pytest.skip(f"there is no {file}")
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def roots(request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """The folders of golden ids and of tokenizers."""
    found = []
    for option in ("golden_tokens_root", "tokenizers_root"):
        root = request.config.getoption(option)
        if root is None or not root.is_dir():
            pytest.skip(f"--{option.replace('_', '-')} names no folder (it is {root})")
        found.append(root)
    return found[0], found[1]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("clip")
    video = write_video(folder / "clip.mp4", np.zeros((FRAMES, 32, 48, 3), np.uint8))
    return video, write_wav(folder / "clip.wav", tone(SECONDS, 16000), 16000)


@pytest.fixture(scope="module")
def qwen2(roots: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    return ChatTokenizer(published_qwen2(roots[1], tmp_path_factory.mktemp("qwen") / "qwen2"))


def problem(model: str, row: Row, ids: list[int], adapter: Mllm) -> str | None:
    """What is wrong with the prompt that we make of a row, None where nothing is."""
    verdict, subtitle = row["ours"], row["subtitle"] or ""
    if verdict.startswith(DESIGN):
        limit = QWEN2_WORDS if model == "affectgpt" else LLAMA_WORDS
        words = adapter.tokenizer.decode([token for token in ids if 0 <= token < limit])
        if ids == row["ids"] or subtitle not in words:
            return f"{row['kind']}: the subtitle should stay words, but the prompt is {words!r}"
    elif not verdict.startswith(NO_PROMPT):
        golden = row["ids_of_kept"] if verdict.startswith(CUT) else row["ids"]
        if ids != golden:
            at = next(
                (i for i, two in enumerate(zip(ids, golden, strict=False)) if len(set(two)) > 1),
                "end",
            )
            return f"{row['kind']}: {len(ids)} ids, {len(golden)} expected, other from {at} on"
    return None


def test_prompts_are_the_authors(
    model: str | None, roots: tuple[Path, Path], clip: tuple[Path, Path], tmp_path: Path
) -> None:
    assert model, f"{roots[0]} holds no MODEL.json"
    rows = _read(roots[0], model)["prompts"]
    adapter = published(model, roots[1], tmp_path)
    problems = []
    for row in rows:
        if row["ours"].startswith(("equal", DESIGN, CUT, NO_PROMPT)):
            ids = prompt_ids(adapter.prepare(*clip, row["subtitle"]))
            problems.append(problem(model, row, ids, adapter))
    assert len(problems) > 1
    assert not any(problems), "\n".join(filter(None, problems))


def test_accidents_of_prompts_are_the_authors(
    roots: tuple[Path, Path], clip: tuple[Path, Path], tmp_path: Path
) -> None:
    """Video-ChatGPT's question is cut at 1200 characters, which is off by default."""
    rows = _read(roots[0], "video_chatgpt")["prompts"]
    adapter = published("video_chatgpt", roots[1], tmp_path, bug_compat=True)
    row = next(row for row in rows if row["kind"] == "long")
    assert prompt_ids(adapter.prepare(*clip, row["subtitle"])) == row["ids"]


@pytest.mark.parametrize("bug_compat", [False, True])
def test_answers_are_recorded_as_the_authors_do(
    model: str | None, bug_compat: bool, roots: tuple[Path, Path], tmp_path: Path
) -> None:
    assert model, f"{roots[0]} holds no MODEL.json"
    key = "ours_paper" if bug_compat else "ours_none"
    rows = [row for row in _read(roots[0], model)["answers"] if key in row]
    if not rows:
        pytest.skip(f"{model} has no accidents to repeat")
    adapter = published(model, roots[1], tmp_path, bug_compat=bug_compat)
    for row in rows:
        expected = row["text"] if row[key] == "equal" else row[key]
        assert recorded(model, adapter, row["ids"]) == expected, row["name"]


def test_question_of_llama_vids_qformer(
    roots: tuple[Path, Path], clip: tuple[Path, Path], tmp_path: Path
) -> None:
    rows = _read(roots[0], "llama_vid_bert")["prompts"]
    adapter = published("llama_vid", roots[1], tmp_path)
    for row in rows:
        golden = row["ids_of_kept"] if row["ours"].startswith(CUT) else row["ids"]
        asked = adapter.prepare(*clip, row["subtitle"]).inputs.question
        assert asked == golden, row["kind"]


def test_questions_of_extraction(
    step: str | None, roots: tuple[Path, Path], qwen2: ChatTokenizer
) -> None:
    assert step, f"{roots[0]} holds no extraction.json"
    for row in _read(roots[0], "extraction")["steps"][step]:
        values = dict.fromkeys(STEPS[step].slots, row["text"])
        if step == "merge":
            values["reason"] = "The woman smiles."
        ids = qwen2.chat(STEPS[step].render(**values))
        if row["kind"] == "chatml":  # control tokens that a text spells stay words, by design
            assert ids != row["ids"]
            assert row["text"] in qwen2.decode(ids)
        else:
            assert ids == row["ids"], row["kind"]
