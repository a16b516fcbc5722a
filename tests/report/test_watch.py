"""The page that follows a running sweep."""

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.report.watch import watch
from tests.report.folders import said, write_run


def test_it_is_written_when_a_run_changes_and_once_more_at_the_end(tmp_path):
    outputs = tmp_path / "outputs"
    written = []

    def write(reload: float) -> None:
        written.append(reload)
        if len(written) == 1:
            write_run(outputs, "half", [said("good_news", "happy")], {})
            raise PrerequisiteError("no run folders there")
        if reload:
            raise KeyboardInterrupt

    watch(write, [outputs], seconds=0.01)
    assert written == [0.01, 0.01, 0]


def test_nothing_is_written_while_nothing_changes(tmp_path, monkeypatch):
    written, slept = [], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    write_run(tmp_path, "half", [said("good_news", "happy")], {})
    watch(written.append, [tmp_path], seconds=5)
    assert written == [5, 0]
    assert slept == [5, 5, 5]
