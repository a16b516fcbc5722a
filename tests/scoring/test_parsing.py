"""The two parsers of labels: the strict one on values that are no text, the friendly one on all."""

import math

import numpy as np
import pytest

from ovmer.runners.scoring.parsing import friendly_list, string_to_list


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        (None, []),
        (math.nan, []),
        (np.float64("nan"), []),
        (np.array(["happy", "sad"]), ["happy", "sad"]),
        (np.array("[happy, sad]"), ["happy", "sad"]),
        (("happy", " sad"), ["happy", " sad"]),
        ([], []),
        ([""], [""]),
    ],
)
def test_strict_values_that_are_no_text(value: object, labels: list[str]) -> None:
    assert string_to_list(value) == labels


@pytest.mark.parametrize("value", [3, 0.5, True, {"a": "b"}, ["happy", 3], ["happy", None], b"sad"])
@pytest.mark.parametrize("parse", [string_to_list, friendly_list])
def test_what_is_no_labels_is_refused(value: object, parse: object) -> None:
    with pytest.raises(TypeError, match=r"no text|neither text nor a list of texts"):
        parse(value)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("[happy, sad].", ["happy", "sad"]),
        ("开心，难过、don't know", ["开心", "难过", "don't know"]),
        ("- happy\n- sad", ["happy", "sad"]),
        ("1. happy\n2) sad", ["happy", "sad"]),
        ("* happy\n• sad", ["happy", "sad"]),
        ('{"emotions": ["happy", "sad"], "n": 2}', ["happy", "sad"]),
        ('```json\n["happy, sad", "calm"]\n```', ["happy", "sad", "calm"]),
        ('"happy, sad"', ["happy", "sad"]),
        ("['don't know', 'sad']", ["don't know", "sad"]),
        ("【happy，sad】", ["happy", "sad"]),
        ("“resentful”，“Important”", ["resentful", "Important"]),
        ("[['happy', 'sad'], ['calm']]", ["happy", "sad", "calm"]),
        ("happy; sad | calm", ["happy", "sad", "calm"]),
        ("**happy**, *sad*", ["happy", "sad"]),
        ("self-deprecating, let down", ["self-deprecating", "let down"]),
        ("[", []),
        ("", []),
        ("[]", []),
        (["happy.", "sad，calm"], ["happy", "sad", "calm"]),
        (None, []),
    ],
)
def test_friendly(text: object, labels: list[str]) -> None:
    assert friendly_list(text) == labels


@pytest.mark.parametrize("parse", [string_to_list, friendly_list])
@pytest.mark.parametrize(
    "piece", ["happy, ", "[", "`", " ", '"', "happy，", "- ", "```\n", '["a",']
)
def test_time_grows_with_the_length(parse: object, piece: str) -> None:
    """A megabyte takes at most a second; if time grew with its square it would take hours."""
    labels = parse(piece * (1_000_000 // len(piece)))  # type: ignore[operator]
    assert isinstance(labels, list)
