"""Answers outlive the process that asked, and several processes may ask at once."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from ovmer.baselines.decoding.answer_cache import AnswerCache, Question
from ovmer.baselines.decoding.answers import Generated
from ovmer.baselines.errors import PrerequisiteError

ASKER = {"engine": "transformers", "model": "qwen", "revision": "1", "temperature": 0.0}


def questions(count: int) -> list[Question]:
    return [(f"How does clip {number} feel?", 0) for number in range(count)]


def write(folder: Path, who: int, die: bool = False) -> None:
    with AnswerCache(folder, ASKER) as answers:
        for question in questions(300):
            answers.keep(question, Generated(f"process {who}"))
        if die:
            os.kill(os.getpid(), signal.SIGKILL)


def start(folder: Path, *writers: tuple[int, bool]) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write, args=(folder, *each)) for each in writers]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def test_an_answer_is_found_again_as_it_was(tmp_path: Path):
    reply = Generated("[happy，高兴]\n", is_cut=True, prompt_tokens=7, new_tokens=3)
    with AnswerCache(tmp_path, ASKER) as answers:
        assert answers.keep(("a", 0), reply) == reply
    with AnswerCache(tmp_path, ASKER) as answers:
        assert answers.find([("b", 0), ("a", 0)]) == [None, reply]


@pytest.mark.parametrize(
    ("asker", "question"),
    [
        ({**ASKER, "revision": "2"}, ("a", 0)),
        ({**ASKER, "temperature": 0.7}, ("a", 0)),
        ({**ASKER, "engine": "vllm"}, ("a", 0)),
        (ASKER, ("a", 1)),
        (ASKER, ("a ", 0)),
    ],
)
def test_whatever_shapes_an_answer_makes_it_another_question(
    tmp_path: Path, asker: dict[str, object], question: Question
):
    with AnswerCache(tmp_path, ASKER) as answers:
        answers.keep(("a", 0), Generated("[happy]"))
    with AnswerCache(tmp_path, asker) as answers:
        assert answers.find([question]) == [None]


def test_a_process_that_is_killed_loses_none(tmp_path: Path):
    start(tmp_path, (1, True))
    with AnswerCache(tmp_path, ASKER) as answers:
        assert answers.find(questions(300)) == [Generated("process 1")] * 300


def test_several_writers_agree_on_one_answer_each(tmp_path: Path):
    start(tmp_path, (1, False), (2, False), (3, True))
    with AnswerCache(tmp_path, ASKER) as answers:
        found = answers.find(questions(300))
        assert None not in found
        assert {each.text for each in found if each} <= {f"process {who}" for who in (1, 2, 3)}
        first = found[0]
        assert answers.keep(questions(1)[0], Generated("too late")) == first


def test_a_file_of_another_kind_is_named(tmp_path: Path):
    (tmp_path / "answers.sqlite").write_text("my holiday notes, which are long enough" * 100)
    with pytest.raises(PrerequisiteError, match=r"answers\.sqlite cannot be used .*remove it"):
        AnswerCache(tmp_path, ASKER)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PrerequisiteError, match=r"extractor\.cache=FOLDER"):
        AnswerCache(tmp_path / "file" / "cache", ASKER)
