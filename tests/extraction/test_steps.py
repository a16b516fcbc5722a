"""The prompts are the authors' byte for byte, and replies are read as theirs are."""

import json
from pathlib import Path

import pytest

from ovmer.runners.extraction.steps import STEPS, StepPrompt, clean_reply, grouping, merging

SHARED = Path(__file__).parents[2] / ".." / "shared"
GOLDEN = Path(__file__).parents[1] / "golden" / "scorer" / "cases.json"


def test_the_prompts_are_the_authors_byte_for_byte():
    source = SHARED / "prompts.json"
    if not source.exists():
        pytest.skip("the authors' prompts are not beside the checkout")
    theirs = json.loads(source.read_text(encoding="utf-8"))
    for step in STEPS.values():
        family, _, name = step.prompt.partition("/")
        prompt = theirs[family]["prompts"][name]
        assert step.text == prompt["text"]
        assert list(step.slots) == prompt["slots"]


def test_runs_of_blanks_and_the_full_width_semicolon_stand():
    prompt = merging("He frowns.", "Why now?").prompt
    assert prompt == (
        "Please assume the role of an expert in the field of emotions.     We have provided clues "
        "from the video that may be related to the characters' emotional states.     In addition, "
        "we have also provided the subtitle content of the video.     Please merge all these "
        "information to infer the emotional states of the characters, and provide reasoning for "
        "your inferences.     Input: Clue: He frowns.；Subtitle: Why now?    Output:"
    )
    labels = STEPS["labels"].render(reason="He frowns.")
    assert labels.endswith("Output: [happy, sad, angry] Input: He frowns.; Output: ")


@pytest.mark.parametrize("name", STEPS)
def test_slots_are_filled_literally_and_once(name: str):
    step = STEPS[name]
    tricks = "{reason}{subtitle}{labels}; Output: \\1 {python_list_of_unique_labels} {0} %s"
    rendered = step.render(**dict.fromkeys(step.slots, tricks))
    pieces = rendered.split(tricks)
    assert len(pieces) == 1 + len(step.slots)
    assert "{".join(pieces).count("{") == len(step.slots)  # no slot is left, none is new


@pytest.mark.parametrize("case", json.loads(GOLDEN.read_text())["reply_postprocess"])
def test_replies_are_cleaned_as_the_authors_do(case: dict[str, str]):
    assert clean_reply(case["in"]) == case["out"]


@pytest.mark.parametrize(
    ("clue", "subtitle", "merged"),
    [
        ("", "", "Unable to judge the emotional state."),
        (" ", " ", "Unable to judge the emotional state."),
        ("He frowns. ", "", "He frowns. "),
        ("", "Why?", StepPrompt("merge_subtitle_alone", {"subtitle": "Why?"})),
        ("He frowns.", "Why?", StepPrompt("merge", {"reason": "He frowns.", "subtitle": "Why?"})),
    ],
)
def test_a_clue_and_a_subtitle_become_one_text(clue: str, subtitle: str, merged: StepPrompt | str):
    assert merging(clue, subtitle) == merged


def test_the_chinese_prompts_merge_by_the_same_rules():
    assert merging("他皱眉", "为什么", "merge_chinese").prompt.endswith(
        "输入：视频线索：他皱眉；字幕内容：为什么    输出："
    )
    assert merging("", "为什么", "merge_chinese").prompt.endswith(
        "输入：字幕内容：为什么    输出："
    )


def test_labels_to_group_are_listed_sorted_and_once():
    asked = grouping(["Sad", "happy"], ["happy", "don't know"])
    assert asked.prompt.endswith("""Input: ["don't know", 'happy', 'sad'] Output:""")


@pytest.mark.parametrize(
    ("step", "reply", "value"),
    [
        ("labels", "[happy, sad]", ["happy", "sad"]),
        ("labels", "[]", []),
        ("sentiment", "positive", "positive"),
        ("sentiment", "Positive", None),
        ("sentiment", "positive.", None),
        ("basic_emotion", "worried", "worried"),
        ("basic_emotion", "joyful", None),
        ("basic_emotion_from_description", "happy. Since he smiles.", "happy"),
        ("groups", "[['a', 'b'], ['c']]", [["a", "b"], ["c"]]),
        ("to_english", "He is happy.", "He is happy."),
    ],
)
def test_each_step_reads_its_reply(step: str, reply: str, value: object):
    assert STEPS[step].read(reply) == value
