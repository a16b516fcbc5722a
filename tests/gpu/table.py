"""Rows of the table that `python -m tests.gpu.smoke` prints."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from tabulate import tabulate

OK, FAIL, NOTE, SKIPPED = "ok", "FAIL", "note", "skipped"


@dataclass(frozen=True)
class Row:
    """One thing that was looked at."""

    check: str
    item: str
    verdict: str
    """ok, FAIL, note (a figure without a bound) or skipped (this machine cannot show it)."""
    found: str

    @classmethod
    def of(cls, check: str, item: str, holds: bool, found: str) -> "Row":
        return cls(check, item, OK if holds else FAIL, found)

    def as_line(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> "Row":
        return cls(**json.loads(line))


def rendered(rows: Sequence[Row], head: Iterable[str]) -> str:
    """The table as Markdown below lines that say what machine it is of."""
    body = tabulate(
        [(row.check, row.item, row.verdict, row.found) for row in rows],
        headers=["check", "item", "verdict", "found"],
        tablefmt="github",
        disable_numparse=True,
    )
    failed = [row for row in rows if row.verdict == FAIL]
    end = f"{len(failed)} of {len(rows)} rows failed" if failed else f"all {len(rows)} rows hold"
    return "\n".join([*head, "", body, "", end, ""])
