"""Every thinking format, complete, cut and with parts missing."""

import pytest

from ovmer.adapters.thinking import FORMATS, opens_thinking, split_thinking

FRAME = "<|start|>assistant"
ANALYSIS = "<|channel|>analysis<|message|>She frowns."
FINAL = "<|channel|>final<|message|>Angry."

TABLE = [
    # format, case, text, thinking, answer
    ("think", "plain", "He is happy.", "", "He is happy."),
    ("think", "plain", " He is\nhappy. ", "", " He is\nhappy. "),
    ("think", "empty", "", "", ""),
    ("think", "whole", "<think>\nShe frowns.\n</think>\n\nAngry.", "She frowns.", "Angry."),
    ("think", "no opening", "She frowns.</think>Angry.", "She frowns.", "Angry."),
    ("think", "no thinking", "<think></think>\nHappy.", "", "Happy."),
    ("think", "no answer", "<think>She frowns.</think>", "She frowns.", ""),
    ("think", "cut", "<think>She frowns, so", "She frowns, so", ""),
    ("think", "quoted", "<think>I end </think> so.</think>Sad.", "I end </think> so.", "Sad."),
    ("think", "quoted", "He says <think> twice.", "", "He says <think> twice."),
    (
        "think",
        "whole R1",
        "<context>A room.</context>\n<think>A frown.</think>\n<answer>sad</answer>",
        "A room.\nA frown.",
        "sad",
    ),
    ("think", "no context", "<think>A frown.</think><answer>sad</answer>", "A frown.", "sad"),
    ("think", "no thinking", "<context>A room.</context><answer>sad</answer>", "A room.", "sad"),
    ("think", "context alone", "<context>A room.</context>Sad.", "A room.", "Sad."),
    ("think", "answer alone", "<answer>sad</answer>", "", "sad"),
    ("think", "no tags", "<context>A.</context><think>B.</think>Sad.", "A.\nB.", "Sad."),
    ("think", "cut context", "<context>A ro", "A ro", ""),
    ("think", "cut thinking", "<context>A room.</context><think>A fr", "A room.\nA fr", ""),
    ("think", "cut before", "<context>A room.</context>", "A room.", ""),
    ("think", "cut answer", "<think>A frown.</think><answer>sad, an", "A frown.", "sad, an"),
    ("think", "cut in the tag", "<think>A frown.</think><answ", "A frown.", ""),
    ("think", "cut in the end", "<think>A.</think><answer>sad</ans", "A.", "sad"),
    (
        "think",
        "twice",
        "<think>A frown.</think><answer>sad</answer><think>No.</think><answer>angry</answer>",
        "A frown.",
        "sad",
    ),
    ("think", "answer twice", "<think>A.</think><answer>a</answer><answer>b</answer>", "A.", "a"),
    ("think", "not closed", "<think>A frown. <answer>sad</answer>", "A frown.", "sad"),
    ("think", "not opened", "A frown. </think> <answer>sad</answer>", "A frown.", "sad"),
    ("think", "no think tags", "A frown.\n<answer>sad</answer>", "A frown.", "sad"),
    ("think", "no end of answer", "A frown. <answer>sad", "", "A frown. <answer>sad"),
    (
        "think",
        "quoted answer",
        "<think>In <answer>x</answer>, so</think><answer>sad</answer>",
        "In <answer>x</answer>, so",
        "sad",
    ),
    (
        "think",
        "GLM's box",
        "<think>A.</think><answer><|begin_of_box|>sad<|end_of_box|></answer>",
        "A.",
        "sad",
    ),
    ("think", "box alone", "<|begin_of_box|>sad<|end_of_box|>", "", "sad"),
    ("thinking", "whole", "<thinking>a</thinking> b", "a", "b"),
    ("thinking", "cut", "<thinking>a", "a", ""),
    ("thinking", "no opening", "a</thinking>b", "a", "b"),
    ("kimi", "whole", "◁think▷a◁/think▷b", "a", "b"),
    ("kimi", "cut", "◁think▷a", "a", ""),
    ("kimi", "no opening", "a◁/think▷b", "a", "b"),
    ("mistral", "whole", "[THINK]a[/THINK]b", "a", "b"),
    ("mistral", "cut", "[THINK]a", "a", ""),
    ("mistral", "no opening", "a[/THINK]b", "a", "b"),
    ("gemma", "whole", "<|channel>thought\na<channel|>b", "a", "b"),
    ("gemma", "empty", "<|channel>thought\n<channel|>b", "", "b"),
    ("gemma", "cut", "<|channel>thought\na", "a", ""),
    ("gemma", "no opening", "a<channel|>b", "a", "b"),
    ("harmony", "whole", f"{ANALYSIS}<|end|>{FRAME}{FINAL}<|return|>", "She frowns.", "Angry."),
    ("harmony", "cut analysis", "<|channel|>analysis<|message|>She fr", "She fr", ""),
    ("harmony", "cut final", f"{ANALYSIS}<|end|>{FRAME}<|channel|>final", "She frowns.", ""),
    ("harmony", "no final", f"{ANALYSIS}<|end|>", "She frowns.", ""),
    ("harmony", "no analysis", FINAL, "", "Angry."),
    (
        "harmony",
        "commentary",
        f"{ANALYSIS}<|end|>{FRAME}<|channel|>commentary<|message|>Hm.<|end|>{FRAME}{FINAL}",
        "She frowns.",
        "Angry.",
    ),
    ("harmony", "decoded", "analysisShe frowns.assistantfinalAngry.", "She frowns.", "Angry."),
]


@pytest.mark.parametrize(("name", "case", "text", "thinking", "answer"), TABLE)
@pytest.mark.parametrize("is_declared", [True, False])
def test_thinking_is_separated_from_the_answer(name, case, text, thinking, answer, is_declared):
    declared = name if is_declared else "auto"
    assert split_thinking(text, thinking_format=declared) == (thinking, answer), case


def test_the_table_has_every_format():
    assert {row[0] for row in TABLE} == set(FORMATS)


def test_what_only_a_declared_format_can_tell():
    cut = "analysisShe frowns, so"
    assert split_thinking(cut, thinking_format="harmony") == ("She frowns, so", "")
    assert split_thinking(cut) == ("", cut)
    tagged = "<think>a</think>b"
    assert split_thinking(tagged, thinking_format="none") == ("", tagged)
    assert split_thinking(tagged, thinking_format="kimi") == ("", tagged)


def test_a_prompt_that_opens_the_thinking_leaves_no_answer_where_it_never_ends():
    assert split_thinking("She frowns, so", inside=True) == ("She frowns, so", "")
    assert split_thinking("She frowns.</think>Angry.", inside=True) == ("She frowns.", "Angry.")
    tagged = "She frowns.</think><answer>Angry"
    assert split_thinking(tagged, inside=True) == ("She frowns.", "Angry")


def test_a_template_may_open_the_thinking():
    assert opens_thinking("<|im_start|>assistant\n<think>\n")
    assert not opens_thinking("<|im_start|>assistant\n<think>\n\n</think>\n")
