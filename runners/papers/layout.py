"""A printed table as data: its rows and columns, its protocol, and the figures in print.

The figures are in published/*.csv as printed, each with its source. What was not read is
not there, and its cell stays empty.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from ovmer.baselines.errors import PrerequisiteError, near
from ovmer.runners.job import OWN_PRESET


@dataclass(frozen=True)
class Column:
    """One figure of one data set; without a data set, the mean of the columns before it."""

    title: str
    dataset: str | None = None
    metric: str = ""
    """Ours; empty where there is none that could give this figure."""
    figure: str = ""
    clips: int | None = None
    """How many the authors' loader insists on."""
    published: tuple[str, str] | None = None
    """(data set, metric) as published/*.csv spells them."""
    unit: int = 100
    """The printed value of a figure of 1."""
    mean_of: tuple[str, ...] | None = None
    """Without a data set: the titles of the columns that it is the mean of; None: all before it."""
    weights: tuple[float, ...] = ()
    """Of those columns; none: all alike."""


@dataclass(frozen=True)
class PrintedRow:
    """One model as print calls it, and the baseline that is it."""

    model: str
    inputs: str = ""
    """Its inputs, of V (video), A (audio) and T (text, the subtitle)."""
    baseline: str | None = None
    notes: tuple[str, ...] = ()
    task: str | None = None
    """The question that print asked, a file of conf/task; None: not known, or the column's only."""


@dataclass(frozen=True)
class Published:
    """A figure in print."""

    value: float
    text: str
    """As printed."""
    std: float | None
    source: str


@dataclass(frozen=True)
class TableLayout:
    """One printed table."""

    name: str
    title: str
    subtitle: str | None
    """prompt (one step), merge (two steps); None where print does not say."""
    edition: str
    columns: tuple[Column, ...]
    rows: tuple[PrintedRow, ...]
    notes: tuple[str, ...]
    row_notes: Mapping[str, str]
    plot: tuple[str, ...]
    """Titles of the columns in the forest plot."""
    runs: int
    """How many runs print's means and deviations are of."""
    generation: str
    """The preset that print decodes with: own (see `own_preset`) or greedy."""
    extractor: str | None
    """The language model of print's label step; None where it is not to be had any more."""
    labels: str
    """Its prompt there, by the name that `extractor.labels` has."""
    grouped_by: str | None
    """The language model of print's groups, where a column has metric=grouping."""
    figures: Mapping[tuple[str, str, str, str], Published] = field(repr=False)
    """(model, inputs, data set, metric) -> the printed figure."""

    def printed(self, row: PrintedRow, column: Column) -> Published | None:
        """The published figure of a cell, None where none was read."""
        if column.published is None:
            return None
        return self.figures.get((row.model, row.inputs, *column.published))


def layout_names() -> list[str]:
    folder = files("ovmer.runners.papers").joinpath("layouts")
    return sorted(each.name.removesuffix(".yaml") for each in folder.iterdir())


def read_layout(name: str) -> TableLayout:
    """The layout of `layouts/NAME.yaml`; PrerequisiteError for an unknown name."""
    import yaml

    if name not in layout_names():
        raise PrerequisiteError(f"there is no layout={name}; {near(name, layout_names())}")
    path = files("ovmer.runners.papers").joinpath("layouts", f"{name}.yaml")
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    tables = content["table"] if isinstance(content["table"], list) else [content["table"]]
    columns = tuple(_column(each) for each in content["columns"])
    return TableLayout(
        name,
        content["title"],
        content["subtitle"],
        content["edition"],
        columns,
        tuple(
            PrintedRow(**{**each, "notes": tuple(each.get("notes", ()))})
            for each in content["rows"]
        ),
        tuple(content["notes"]),
        content.get("row_notes", {}),
        tuple(content.get("plot") or (column.title for column in columns)),
        content.get("runs", 1),
        content.get("generation", OWN_PRESET),
        content.get("extractor"),
        content.get("labels", "labels"),
        content.get("grouped_by"),
        _published(content["published"], tables),
    )


def _column(content: dict[str, Any]) -> Column:
    lists = {key: tuple(value) for key, value in content.items() if isinstance(value, list)}
    return Column(**{**content, **lists})


def _published(file: str, tables: Sequence[str]) -> dict[tuple[str, str, str, str], Published]:
    path = files("ovmer.runners.papers").joinpath("published", file)
    rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    return {
        (row["model"], row["inputs"], row["dataset"], row["metric"]): Published(
            float(row["value"]),
            row["value"],
            float(row["std"]) if row["std"] else None,
            row["source"],
        )
        for row in rows
        if row["table"] in tables
    }
