"""The table of faults, a row of each kind; the soak tries all of them in all stages."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.runs import Running, kept, require_row, write_data
from tests.faults.table import FAULTS, Fault


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    ended = Running(folder, write_data(folder)).end()
    assert ended.status == 0, ended.said
    return kept(folder)


def one_of_each() -> Iterator[tuple[Fault, str]]:
    """The first fault of each call that ends alike, the stages in turn."""
    seen = dict[tuple[str, str], Fault]()
    for each in FAULTS:
        ends = each.promise if isinstance(each.promise, str) else "a signal"
        seen.setdefault((each.call, ends), each)
    for number, fault in enumerate(seen.values()):
        yield fault, fault.stages[number % len(fault.stages)]


@pytest.mark.parametrize(("fault", "stage"), list(one_of_each()), ids=str)
def test_what_fails_costs_nothing_that_was_kept(
    fault: Fault, stage: str, undisturbed: list[dict[str, object]], tmp_path: Path
) -> None:
    require_row(fault, stage, undisturbed, tmp_path)


def test_the_table_has_twenty_kinds_in_three_stages():
    assert sum(len(each.stages) == 3 for each in FAULTS) >= 20
