import pytest

from ovmer.adapters.lexicon import conclusion, emotion_words, find_emotions


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("He is happy.", ["happy"]),
        ("Her nervousness shows; nervously she waits.", ["nervous"]),
        ("HAPPY, Happy, happily", ["happy"]),
        ("He is not happy.", []),
        ("He isn't happy, he is sad.", ["sad"]),
        ("He isn’t happy but sad.", ["sad"]),
        ("without any obvious signs of nervousness or unease", []),
        ("not only angry but also worried", ["angry", "worried"]),
        ("worried rather than angry", ["worried"]),
        ("but rather worried", ["worried"]),
        ("a lack of confidence and hope. He is tired", ["tired"]),
        ("self-deprecating humour", ["self-deprecating", "humorous"]),
        ("the word madam hides no mad", []),
        ("", []),
        ("他很高兴", []),
    ],
)
def test_find_emotions(text, labels):
    assert find_emotions(text) == labels


def test_conclusion_is_the_end_without_quotations():
    text = 'He frowns. He says "I love it!" He is calm. So he is sad.'
    assert conclusion(text, 1) == "So he is sad."
    assert find_emotions(conclusion(text, 0)) == ["calm", "sad"]


def test_no_form_leads_to_two_labels():
    words = emotion_words()
    assert all(words[label] == label for label in set(words.values()))
    assert len(words) > 500
