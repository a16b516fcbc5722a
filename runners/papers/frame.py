"""A paper's table as a data frame, for notebooks."""

from pathlib import Path
from typing import TYPE_CHECKING

from ovmer.runners.papers.layout import read_layout
from ovmer.runners.papers.render import cell_rows
from ovmer.runners.papers.results import read_results
from ovmer.runners.papers.table import make_table

if TYPE_CHECKING:
    from pandas import DataFrame

_NUMBERS = ["ours", "low", "high", "spread", "published_std", "difference", "difference_half_width"]


def table(layout: str, *paths: str | Path) -> "DataFrame":
    """The cells of a paper's table, one a row, with our figures from the run folders at `paths`.

    `layout` is the name of the table ("ovmer", "mer_unibench", ...), `paths` are folders to search
    ("outputs" if none is given). Figures are on the scale of print; NaN where there is none, with
    the reason in the column `why`. Raises PrerequisiteError for an unknown layout and for folders
    without runs.
    """
    from pandas import DataFrame, to_numeric

    results = read_results([Path(path).expanduser() for path in paths or ("outputs",)])
    frame = DataFrame(cell_rows(make_table(read_layout(layout), results)))
    frame[_NUMBERS] = frame[_NUMBERS].apply(to_numeric, errors="coerce")
    return frame
