"""Parsers of replies: what each rule costs, and that none of them raises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.tasks.parsers import (
    MULTI,
    PARSERS,
    careful_choice,
    make_parser,
    texts_of_parts,
)
from ovmer.runners.tasks.readers import dimension_score, number, several, steps

EMOTIONS = ("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear")


@pytest.mark.parametrize("name", PARSERS)
@given(reply=st.text())
def test_no_parser_raises(name: str, reply: str) -> None:
    assert isinstance(make_parser(name, EMOTIONS)(reply), str | None)


@given(reply=st.text())
def test_no_reader_raises(reply: str) -> None:
    assert isinstance(number(reply), float | None)
    assert isinstance(steps(reply, fractions=True), list | None)
    assert isinstance(dimension_score("Logic")(reply), int | None)
    assert isinstance(several(EMOTIONS)(reply), tuple)
    assert len(texts_of_parts(reply, ["emotion", "intent"])) == 2


@pytest.mark.parametrize(
    ("reply", "careful", "exact", "regex_first", "erv_dfew"),
    [
        ("happy", "happy", "happy", "happy", "happy"),
        ("Happy.", "happy", "Happy.", "happy", None),
        ("The man is not happy, he is sad.", "sad", None, "happy", None),
        ("<think>happy?</think><answer>sad</answer>", "sad", None, "happy", "sad"),
        ("unhappy", None, "unhappy", None, None),
        ("happiness", "happy", "happiness", None, "happy"),
        ("happy or sad", MULTI, "happy or sad", "happy", None),
        ("他很生气", "angry", "他很生气", None, None),
        ("", None, "", None, None),
        ("Emotion: fear", "fear", "Emotion: fear", "fear", None),
        ("sad<|im_end|>", "sad", "sad<|im_end|>", "sad", None),
    ],
)
def test_rules_differ(
    reply: str,
    careful: str | None,
    exact: str | None,
    regex_first: str | None,
    erv_dfew: str | None,
) -> None:
    assert make_parser("careful", EMOTIONS)(reply) == careful
    assert make_parser("exact", EMOTIONS)(reply) == (reply if exact is None else exact)
    assert make_parser("regex_first", EMOTIONS)(reply) == regex_first
    assert make_parser("erv_dfew", EMOTIONS)(reply) == erv_dfew


@pytest.mark.parametrize(
    ("reply", "careful"),
    [
        ("非常高兴", "happy"),
        ("他不高兴", None),
        ("他并不是很高兴，而是悲伤", "sad"),
        ("她看起来難過。", "sad"),
        ("高兴和悲伤", MULTI),
        ("The man doesn’t seem happy, he is sad.", "sad"),
        ("平静", "neutral"),
    ],
)
def test_negated_and_chinese_words(reply: str, careful: str | None) -> None:
    assert make_parser("careful", EMOTIONS)(reply) == careful


def test_a_chinese_word_of_one_character_counts_by_itself() -> None:
    parse = make_parser("careful", ["true", "false"])
    replies = ["是", "是。", "不是", "他是在开玩笑", "否"]
    assert [parse(each) for each in replies] == ["true", "true", "false", None, "false"]
    assert make_parser("careful", ["neutral", "calm"])("平静") == "calm"


@pytest.mark.parametrize(
    ("reply", "letters"),
    [
        ("B. A gift", "B"),
        ("<think>A. no</think>The answer is (C).", "C"),
        ("<answer>A, E</answer>", "A,E"),
        ("A person laughs, so B", "B"),
        ("A person is happy.", None),
    ],
)
def test_letters_of_options(reply: str, letters: str | None) -> None:
    assert careful_choice("multiple choice")(reply) == letters


def test_a_label_with_a_blank_or_an_underscore_is_read() -> None:
    labels = ("ask for help", "therapist_input", "other")
    assert make_parser("careful", labels)("Intent: Ask for help.") == "ask for help"
    assert make_parser("careful", labels)("therapist input") == "therapist_input"


@pytest.mark.parametrize(
    ("reply", "emotion", "intent"),
    [
        ("{'emotion label': 'happy', 'intent label': 'neutral'}", "happy", "neutral"),
        ("Intent: neutral. Emotion: sad.", "sad", "neutral"),
        ("**Emotion:** fear\n**Intent:** wishing", "fear", "wishing"),
        ("The emotion is neutral and the intent is agreeing.", "neutral", "agreeing"),
        ("happy, wishing", "happy", "wishing"),
        ("", None, None),
    ],
)
def test_each_part_of_an_answer_is_read_by_its_name(
    reply: str, emotion: str | None, intent: str | None
) -> None:
    feels, wants = texts_of_parts(reply, ["emotion", "intent"])
    assert make_parser("careful", EMOTIONS)(feels) == emotion
    assert make_parser("careful", ("agreeing", "wishing", "neutral"))(wants) == intent


def test_an_unknown_parser_is_named() -> None:
    with pytest.raises(PrerequisiteError, match=r"there is no parser 'regex_frist'; .*regex_first"):
        make_parser("regex_frist", EMOTIONS)
