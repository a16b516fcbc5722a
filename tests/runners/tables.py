"""What tests of the papers' tables ask of a table."""

from pathlib import Path

from ovmer.runners.papers.layout import read_layout
from ovmer.runners.papers.results import read_results
from ovmer.runners.papers.table import PaperTable, TableCell, make_table

WHEEL = {"M-avg": 0.4722, "M1": 0.2843}


def weights(**part: object) -> dict[str, object]:
    """What run.json says of Otter's weights."""
    return {"baseline.checkpoint": {"model": part}}


def table_of(outputs: Path, layout: str = "ovmer") -> PaperTable:
    return make_table(read_layout(layout), read_results([outputs]))


def cell(
    table: PaperTable, model: str, column: str = "M-avg", inputs: str | None = None
) -> TableCell:
    (line,) = (
        line
        for line in table.lines
        if line.row.model == model and inputs in (None, line.row.inputs)
    )
    return next(each for each in line.cells if each.column.title == column)


def why(found: TableCell) -> list[str]:
    return [mark.text for mark in found.marks]
