"""Sampling rules on explicit indices; the longer ones were recorded from the models' own code."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovmer.adapters.media import sampling

COUNTS = st.integers(1, 2000)
NUMBERS = st.integers(1, 128)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (60, [0, 8, 16, 25, 33, 42, 50, 59]),
        (5, [0, 0, 1, 1, 2, 2, 3, 4]),
        (8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (1, [0] * 8),
    ],
)
def test_linspace_reaches_both_ends_and_rounds_down(count: int, expected: list[int]) -> None:
    assert sampling.linspace(count, 8) == expected


def test_linspace_can_round_to_the_nearest() -> None:
    assert sampling.linspace(60, 8, rounded=True) == [0, 8, 17, 25, 34, 42, 51, 59]
    assert sampling.linspace(6, 3, rounded=True) == [0, 2, 5]  # 2.5 goes to the even neighbour


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (20, [0, 2, 5, 7, 10, 12, 15, 17]),
        (19, [0, 2, 4, 7, 9, 11, 14, 16]),
        (10, [0, 1, 2, 3, 5, 6, 7, 8]),
        (5, [0, 1, 2, 3, 4]),
    ],
)
def test_strided_leaves_the_end_out_and_repeats_nothing(count: int, expected: list[int]) -> None:
    assert sampling.strided(count, 8) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [(37, [2 * i for i in range(16)]), (32, [2 * i for i in range(16)]), (9, [0] * 16)],
)
def test_whole_steps(count: int, expected: list[int]) -> None:
    assert sampling.whole_steps(count, 16) == expected


@pytest.mark.parametrize(
    ("count", "n", "expected"),
    [
        (100, 8, [6, 18, 31, 43, 56, 68, 80, 93]),
        (37, 8, [2, 6, 11, 16, 20, 24, 29, 34]),
        (5, 8, [0, 0, 1, 2, 2, 2, 3, 4]),
        (100, 4, [12, 37, 62, 86]),
        (30, 4, [3, 10, 17, 25]),
        (3, 4, [0, 0, 1, 2]),
        (1, 4, [0, 0, 0, 0]),
    ],
)
def test_segment_offsets(count: int, n: int, expected: list[int]) -> None:
    assert sampling.segment_offsets(count, n) == expected


@pytest.mark.parametrize(
    ("count", "n", "expected"),
    [
        (5, 8, [0, 1, 1, 2, 2, 3, 3, 4]),
        (41, 8, [3, 8, 13, 18, 23, 28, 33, 38]),
        (1, 8, [0] * 8),
        (2, 2, [0, 1]),
    ],
)
def test_segment_centres(count: int, n: int, expected: list[int]) -> None:
    assert sampling.segment_centres(count, n) == expected


@pytest.mark.parametrize(
    ("count", "n", "expected"),
    [
        (12, 100, [0, 1, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10]),
        (2, 100, [0, 0]),
        (1, 100, [0]),
        (130, 5, [13, 39, 64, 90, 116]),
    ],
)
def test_segment_middles(count: int, n: int, expected: list[int]) -> None:
    assert sampling.segment_middles(count, n) == expected


def test_segment_middles_of_a_long_clip() -> None:
    indices = sampling.segment_middles(130, 100)
    assert indices[:12] == [0, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 14]
    assert indices[-6:] == [122, 123, 124, 125, 127, 128]


@pytest.mark.parametrize(
    ("count", "fps", "most", "expected"),
    [
        (17, 3.2, 100, [0, 3, 6, 9, 12, 15]),
        (40, 2.4, 100, list(range(0, 40, 2))),
        (7, 2.6, None, [0, 3, 6]),
        (6, 2.5, None, [0, 2, 4]),  # half to even
        (3, 0.2, None, [0, 1, 2]),  # less than a frame a second: every frame
        (10, 1.0, 4, [0, 3, 6, 9]),
        (11, 1.0, 4, [0, 3, 6, 10]),
    ],
)
def test_per_second(count: int, fps: float, most: int | None, expected: list[int]) -> None:
    assert sampling.per_second(count, fps, most) == expected


def test_first() -> None:
    assert sampling.first(10, 3) == [0, 1, 2]
    assert sampling.first(2, 3) == [0, 1]


def test_window_starts_with_and_without_the_end() -> None:
    assert sampling.window_starts(6.0, 2, 4) == [0, 1, 2, 3]
    assert sampling.window_starts(6.0, 2, 4, reach_end=True) == [
        0,
        Fraction(4, 3),
        Fraction(8, 3),
        4,
    ]
    assert sampling.window_starts(1.5, 2, 3) == [0, 0, 0]
    assert sampling.window_starts(5.0, 2, 1, reach_end=True) == [0]


@pytest.mark.parametrize(
    ("count", "fps", "seconds", "per_window", "reach_end", "expected"),
    [
        (83, 25.0, 2, 2, True, [0, 49, 9, 58, 17, 66, 25, 74, 33, 82]),
        (31, 29.97, 2, 2, True, [0, 30] * 5),
        (83, 25.0, 1, 1, False, [0, 12, 24, 35, 47]),
        (14, 29.97, 1, 1, False, [0] * 5),
        (1, 25.0, 2, 2, True, [0, 0] * 5),
    ],
)
def test_windows(
    count: int, fps: float, seconds: int, per_window: int, reach_end: bool, expected: list[int]
) -> None:
    found = sampling.windows(count, fps, seconds, 5, per_window, reach_end=reach_end)
    assert found == expected


@given(COUNTS, NUMBERS, st.floats(0.1, 120))
def test_every_rule_stays_inside_the_clip_and_in_order(count: int, n: int, fps: float) -> None:
    rules = [
        sampling.linspace(count, n),
        sampling.linspace(count, n, rounded=True),
        sampling.strided(count, n),
        sampling.whole_steps(count, n),
        sampling.segment_offsets(count, n),
        sampling.segment_centres(count, n),
        sampling.segment_middles(count, n),
        sampling.per_second(count, fps),
        sampling.per_second(count, fps, n),
        sampling.first(count, n),
    ]
    for indices in rules:
        assert indices
        assert indices == sorted(indices)
        assert indices[0] >= 0
        assert indices[-1] < count


@given(COUNTS, st.floats(0.5, 120), st.integers(1, 8), st.booleans())
def test_windows_stay_inside_the_clip(count: int, fps: float, n: int, reach_end: bool) -> None:
    indices = sampling.windows(count, fps, 2, n, 2, reach_end=reach_end)
    assert len(indices) == 2 * n
    assert all(0 <= index < count for index in indices)
