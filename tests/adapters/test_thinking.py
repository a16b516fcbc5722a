import pytest

from ovmer.adapters.thinking import opens_thinking, split_thinking


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("He is happy.", "", "He is happy."),
        (" He is\nhappy. ", "", " He is\nhappy. "),
        ("", "", ""),
        ("<think>\nShe frowns.\n</think>\n\nShe is angry.", "She frowns.", "She is angry."),
        ("She frowns.</think>She is angry.", "She frowns.", "She is angry."),
        ("<think></think>\nHappy.", "", "Happy."),
        ("<think>She frowns, so", "She frowns, so", ""),
        ("<think>I write </think> at the end.</think>Sad.", "I write </think> at the end.", "Sad."),
        ("He says <think> twice.", "", "He says <think> twice."),
        ("<thinking>a</thinking> b", "a", "b"),
        ("◁think▷a◁/think▷b", "a", "b"),
        ("[THINK]a[/THINK]b", "a", "b"),
    ],
)
def test_thinking_is_parted_from_the_answer(text, thinking, answer):
    assert split_thinking(text) == (thinking, answer)


def test_a_prompt_that_opens_the_thinking_leaves_no_answer_where_it_never_ends():
    assert split_thinking("She frowns, so", inside=True) == ("She frowns, so", "")
    assert split_thinking("She frowns.</think>Angry.", inside=True) == ("She frowns.", "Angry.")


def test_a_template_may_open_the_thinking():
    assert opens_thinking("<|im_start|>assistant\n<think>\n")
    assert not opens_thinking("<|im_start|>assistant\n<think>\n\n</think>\n")
