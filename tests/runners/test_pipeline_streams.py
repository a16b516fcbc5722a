"""Adapters that answer a stream of clips, in an order of their own."""

import pytest

from ovmer.baselines.errors import PrerequisiteError, Status
from ovmer.runners.describing.pipeline import Pipeline
from tests.runners.pipelines import NAMES, Streaming, described, requests


def test_a_stream_answers_in_any_order_and_each_clip_has_its_own():
    found = described(Streaming(answers={name: name.upper() for name in NAMES}))
    assert [each.name for each in found] == list("cdefba")
    assert all(each.description == each.name.upper() for each in found)
    assert all(each.status is Status.OK for each in found)


def test_a_stream_is_given_what_could_be_prepared_and_the_rest_is_recorded():
    adapter = Streaming(
        prepare_fails={"a": "unreadable", "f": "bug"}, generate_fails={"d": "timeout"}
    )
    found = {each.name: each.status for each in described(adapter)}
    assert found == {
        **dict.fromkeys("bce", Status.OK),
        "a": Status.UNREADABLE,
        "d": Status.TIMEOUT,
        "f": Status.CRASHED,
    }
    none = described(Streaming(prepare_fails=dict.fromkeys(NAMES, "unreadable")))
    assert [each.status for each in none] == [Status.UNREADABLE] * len(NAMES)


def test_a_stream_that_breaks_off_costs_what_is_in_flight():
    found = {each.name: each.status for each in described(Streaming(generate_fails={"c": "bug"}))}
    assert found == {
        **dict.fromkeys("abc", Status.CRASHED),
        **dict.fromkeys("def", Status.OK),
    }


def test_a_stream_draws_no_further_than_it_needs():
    prepared = []

    class Counting(Streaming):
        def prepare(self, video, audio, subtitle):
            prepared.append(video)
            return super().prepare(video, audio, subtitle)

    pipeline = Pipeline(Counting(), seed=0, batch_size=1, workers=1)
    found = pipeline.describe(requests([str(n) for n in range(100)]))
    next(found)
    assert len(prepared) < 10
    found.close()


@pytest.mark.parametrize("breaks", [True, False])
def test_a_stream_that_does_nothing_ends_all_the_same(breaks):
    class Nothing(Streaming):
        def stream(self, items):
            if breaks:
                raise ZeroDivisionError
            yield from ()

    found = described(Nothing())
    assert [each.status for each in found] == [Status.CRASHED] * len(NAMES)


def test_what_a_stream_answered_is_kept_when_the_run_ends():
    class Stopping(Streaming):
        def stream(self, items):
            for number, item in enumerate(items):
                if number == 2:
                    raise PrerequisiteError("the server is gone")
                yield self.said(number, item)

    found = Pipeline(Stopping(), seed=0, batch_size=4, workers=2).describe(requests())
    assert [next(found).name, next(found).name] == ["a", "b"]
    with pytest.raises(PrerequisiteError, match="the server is gone"):
        next(found)


class Twice(Streaming):
    def said(self, number, item):
        return 0, "the first one again"


def test_a_stream_that_answers_a_clip_twice_ends_the_run_with_a_sentence():
    with pytest.raises(PrerequisiteError, match=r"stream\(\) answered item 0, .* already"):
        described(Twice())
