"""A layout and run folders -> a table of cells, each with what a reader of it must know.

A cell says why it is empty, and why a figure cannot be set beside print; a difference is given only
where it can. Of several runs of one baseline, the one that matches print best is shown.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ovmer.runners.counts import clip_count
from ovmer.runners.folder.scores_json import StoredScores
from ovmer.runners.papers.deviations import Mark, deviations, names_of
from ovmer.runners.papers.layout import Column, PrintedRow, Published, TableLayout
from ovmer.runners.papers.noise import ColumnSummary, half_width, summary
from ovmer.runners.papers.results import PaperRun
from ovmer.runners.scoring.grouping import UNKNOWN
from ovmer.runners.scoring.significance import RunComparison
from ovmer.runners.trained_on import MEANING, over, seen

_NOT_RUN = "not run"
_OWN = "no row of its own in print"


@dataclass(frozen=True)
class TableCell:
    """Our figure and the printed one, both as printed (mostly percent)."""

    column: Column
    ours: float | None
    interval: tuple[float, float] | None
    published: Published | None
    marks: tuple[Mark, ...]
    folder: Path | None = None
    spread: float | None = None
    """The standard deviation of our readings (seeds of the extractor), as printed."""
    noise: float | None = None
    """Half of the 95 % interval of the difference from print; None: not known."""

    @property
    def is_known(self) -> bool:
        """There is a figure of ours, or a run that failed to make one."""
        return self.ours is not None or self.folder is not None

    @property
    def is_comparable(self) -> bool:
        return self.ours is not None and not any(mark.is_grave for mark in self.marks)

    @property
    def difference(self) -> float | None:
        """Ours less print's."""
        if not self.is_comparable or self.ours is None or self.published is None:
            return None
        return self.ours - self.published.value


@dataclass(frozen=True)
class TableRow:
    """One model's cells."""

    row: PrintedRow
    cells: tuple[TableCell, ...]
    is_printed: bool = True
    """False of a baseline that print has no row for."""

    @property
    def trained_on(self) -> str:
        """Whether the model saw the row's data sets in training: yes, no or unknown."""
        datasets = dict.fromkeys(c.column.dataset for c in self.cells if c.column.dataset)
        return over(self.row.baseline, list(datasets))

    @cached_property
    def common(self) -> list[str]:
        """Deviations of every figure of the row or, if it has none, of every gap."""
        own = [cell for cell in self.cells if cell.column.dataset is not None]
        own = [cell for cell in own if cell.ours is not None] or own
        texts = [[mark.text for mark in cell.marks] for cell in own]
        return [text for text in texts[0] if all(text in each for each in texts)]


@dataclass(frozen=True)
class PaperTable:
    """A printed table with our figures in it."""

    layout: TableLayout
    lines: tuple[TableRow, ...]
    families: Mapping[str, RunComparison] = field(default_factory=dict)
    """Title of a column -> the tests of all pairs of its runs (`ranks.with_ranks`)."""

    def ranks(self, cell: TableCell) -> tuple[int, int] | None:
        """The ranks that our run of a cell may have in its column; None where there is no test."""
        family = self.families.get(cell.column.title)
        return None if family is None else family.ranks.get(str(cell.folder))

    @cached_property
    def summaries(self) -> list[ColumnSummary | None]:
        """Summary of each column's differences."""
        columns = zip(*(line.cells for line in self.lines), strict=True)
        return [
            summary([cell.difference for cell in cells if cell.difference is not None])
            for cells in columns
        ]

    @cached_property
    def letters(self) -> Mapping[str, str]:
        """Footnote -> its letter, in the order in which they are met."""
        texts = dict.fromkeys(
            text
            for line in self.lines
            for text in (*self._row_texts(line), *(m.text for c in line.cells for m in c.marks))
        )
        return {text: _letter(i) for i, text in enumerate(texts)}

    def row_letters(self, line: TableRow) -> str:
        """Footnotes of the whole row."""
        return self._letters_of(self._row_texts(line))

    def cell_letters(self, line: TableRow, cell: TableCell) -> str:
        """Footnotes of this cell that are not the whole row's."""
        texts = [mark.text for mark in cell.marks]
        return self._letters_of([text for text in texts if text not in line.common])

    def _letters_of(self, texts: Sequence[str]) -> str:
        """Letters in the order of the footnotes."""
        return ",".join(letter for text, letter in self.letters.items() if text in texts)

    def _row_texts(self, line: TableRow) -> list[str]:
        texts = [self.layout.row_notes[note] for note in line.row.notes]
        return [*texts, *([] if line.is_printed else [_OWN]), *line.common]

    @property
    def notes(self) -> list[str]:
        """Notes under the table that do not depend on the figures."""
        notes = list(self.layout.notes)
        if any(cell.interval for line in self.lines for cell in line.cells):
            notes.append(
                "[low, high]: 95 % interval over clips: how far ours would move on other clips of "
                "this kind. Print scored the same clips, so whether the two agree is not said by "
                "it, but by the difference and its ±"
            )
        if any(line.trained_on for line in self.lines):
            notes.append(MEANING)
        notes += self._notes_on_differences() + self._notes_on_ranks()
        means = [
            column.title
            for column in self.layout.columns
            if column.dataset is None and column.mean_of != ()
        ]
        if means:
            notes.append(f"{', '.join(means)}: given where every column of the mean has a figure")
        return notes

    def _notes_on_differences(self) -> list[str]:
        cells = [cell for line in self.lines for cell in line.cells]
        notes = []
        if any(cell.spread is not None for cell in cells):
            notes.append("s: standard deviation of our readings, that is seeds of the extractor")
        if any(cell.difference is not None for cell in cells):
            notes.append(
                "± of a difference: 95 % (Welch) by our readings and print's deviation, which "
                "hold the noise of the labels and not that of the descriptions; n. k.: not known, "
                "since ours is one reading or print gives no deviation"
            )
        if any(self.summaries):
            notes.append(
                "all rows: mean difference with its 95 % interval over rows, root mean square, and "
                "the p of a t test that the mean is 0; an offset of all rows shows there first"
            )
        return notes

    def _notes_on_ranks(self) -> list[str]:
        if not self.families:
            return []
        detectable = ", ".join(
            f"{title} {100 * family.detectable:.1f}" for title, family in self.families.items()
        )
        return [
            "rank: among our runs of the column, every rank that tests of all pairs leave open "
            "(step-down maxT, 95 % for all runs at once), as in ovmer report",
            f"points apart that two runs must be for four of five tests to find it: {detectable}",
        ]


def make_table(layout: TableLayout, results: Sequence[PaperRun]) -> PaperTable:
    """Fill the layout; baselines without a printed row are added below."""
    by_run: dict[tuple[str, str], list[PaperRun]] = {}
    for result in results:
        by_run.setdefault((result.info.baseline, result.info.dataset), []).append(result)
    rows = [(row, True) for row in layout.rows] + [(row, False) for row in _others(layout, results)]
    lines = []
    for row, is_printed in rows:
        cells: list[TableCell] = []
        for column in layout.columns:
            if column.dataset is None:
                cells.append(_mean(layout, row, column, cells))
            else:
                names = names_of(row.baseline)
                found = [each for name in names for each in by_run.get((name, column.dataset), [])]
                cells.append(_cell(layout, row, column, found))
        if is_printed or any(cell.is_known for cell in cells):
            lines.append(TableRow(row, tuple(cells), is_printed))
    return PaperTable(layout, tuple(lines))


def _others(layout: TableLayout, results: Sequence[PaperRun]) -> Iterator[PrintedRow]:
    known = {name for row in layout.rows for name in names_of(row.baseline)}
    wanted = {column.dataset for column in layout.columns}
    infos = [result.info for result in results if result.info.dataset in wanted]
    others = {info.baseline: info.title for info in infos}
    for baseline, title in others.items():
        if baseline not in known:
            yield PrintedRow(title if "+" not in baseline else baseline, baseline=baseline)


def _cell(
    layout: TableLayout, row: PrintedRow, column: Column, results: Sequence[PaperRun]
) -> TableCell:
    published = layout.printed(row, column)
    choices = []
    for result in results:
        if _all_failed(result):
            continue
        for scored in result.scored:
            if scored.metric == column.metric and scored.figures.get(column.figure) is not None:
                marks = tuple(_marks(layout, row, column, result, scored, published is not None))
                choices.append((result, scored, marks))
    if not choices:
        why = _why_empty(row, column, results)
        tried = (r.folder for r in results if r.info.problem or _is_undefined(r, column))
        return TableCell(column, None, None, published, (Mark(why),), next(tried, None))
    result, scored, marks = min(
        choices, key=lambda each: (sum(mark.is_grave for mark in each[2]), len(each[2]))
    )
    value, interval = scored.figures.get(column.figure), scored.interval(column.figure)
    assert value is not None
    spread = scored.spread.get(column.figure)
    spread = None if spread is None else column.unit * spread
    printed = None if published is None else published.std
    return TableCell(
        column,
        column.unit * value,
        interval and (column.unit * interval[0], column.unit * interval[1]),
        published,
        marks,
        result.folder,
        spread,
        half_width(spread, len(scored.repeats), printed, layout.runs),
    )


def _is_undefined(result: PaperRun, column: Column) -> bool:
    """Whether the run was scored, but on no clip that counts."""
    return any(s.metric == column.metric and column.figure in s.figures for s in result.scored)


def _all_failed(result: PaperRun) -> bool:
    """Whether no clip was answered; the figures say nothing of the model then."""
    return bool(result.info.failed) and result.info.failed == result.info.clips


def _why_empty(row: PrintedRow, column: Column, results: Sequence[PaperRun]) -> str:
    if row.baseline is None:
        return "no baseline of this project"
    if not column.metric:
        return "no metric of this project"
    if not results:
        return _NOT_RUN
    info, all_scored = results[0].info, results[0].scored
    if info.problem is not None and info.described < info.clips:
        return info.problem
    if info.described < info.clips:
        return f"unfinished: {info.described} of {info.clips} clips are described"
    if _all_failed(results[0]):
        return "every clip failed"
    if not info.has_truth:
        return "no true labels to score against"
    if _is_undefined(results[0], column):
        return f"no reply counts for {column.figure}: in none of them a label was read"
    if any(scored.metric == column.metric for scored in all_scored):
        hint = "; extractor=judge gives it" if column.figure.startswith("judge/") else ""
        return f"scored without {column.figure}{hint}"
    if all_scored:
        have = ", ".join(dict.fromkeys(scored.metric for scored in all_scored))
        hint = "; groups: ovmer group" if column.metric == "grouping" else ""
        return f"scored with {have}, not with {column.metric}{hint}"
    return info.problem or "not scored"


def _marks(
    layout: TableLayout,
    row: PrintedRow,
    column: Column,
    result: PaperRun,
    scored: StoredScores,
    is_printed: bool,
) -> Iterator[Mark]:
    """Deviations, grave ones first. The protocol matters only beside a printed figure."""
    info = result.info
    grouped_by = scored.conditions.get("grouped_by", UNKNOWN)
    if info.is_dry or "miniature" in (scored.extractor.get("model"), grouped_by):
        yield Mark("dry run on a random miniature: the figure means nothing")
    if not scored.comparable_with_papers:
        yield Mark("shipped vocabulary; the authors': ovmer fetch wheels")
    edition = scored.conditions.get("vocabulary", layout.edition)
    if edition != layout.edition and scored.comparable_with_papers:
        yield Mark(f"vocabulary {edition}, print's is {layout.edition}")
    if scored.metric == "grouping" and grouped_by != layout.grouped_by:
        yield Mark(f"grouped by {grouped_by}, print's by {layout.grouped_by}")
    if column.clips is not None and scored.n_clips != column.clips:
        yield Mark(f"{clip_count(scored.n_clips)}, not the whole data set")
    asked = (info.about.get("task") or {}).get("name")
    if asked and row.task not in (None, asked):  # of every figure, so that a row is of one run
        yield Mark(f"asked as task={asked}, print as task={row.task}")
    if is_printed:
        yield from deviations(layout, row.baseline, result, scored)
    if mark := seen(info.baseline, info.dataset, info.about["baseline"]).mark:
        yield Mark(mark, is_grave=False)
    if info.failed:
        yield Mark(f"{clip_count(info.failed)} failed, scored as without labels", is_grave=False)
    if info.imported is not None:
        made_by = scored.extractor.get("name", "imported").replace("imported", "unknown")
        yield Mark(f"imported predictions, labels by: {made_by}", is_grave=False)


def _mean(
    layout: TableLayout, row: PrintedRow, column: Column, cells: Sequence[TableCell]
) -> TableCell:
    published = layout.printed(row, column)
    if column.mean_of is not None:
        cells = [cell for cell in cells if cell.column.title in column.mean_of]
        if not cells:
            return TableCell(column, None, None, published, (Mark("no metric of this project"),))
    weights = column.weights or (1.0,) * len(cells)
    values = [cell.ours for cell in cells if cell.ours is not None]
    if len(values) < len(cells):
        why = () if not values else (Mark(f"{len(values)} of {len(cells)} data sets"),)
        return TableCell(column, None, None, published, why)
    halves = [(c.interval[1] - c.interval[0]) / 2 for c in cells if c.interval]
    value, interval = math.fsum(map(math.prod, zip(weights, values, strict=True))), None
    value /= math.fsum(weights)
    if len(halves) == len(cells):  # clips of different data sets are drawn independently
        parts = map(math.prod, zip(weights, halves, strict=True))
        half = math.sqrt(math.fsum(each * each for each in parts)) / math.fsum(weights)
        interval = value - half, value + half
    grave = not all(cell.is_comparable for cell in cells)
    marks = (Mark("mean of figures of which some cannot be set beside print"),) if grave else ()
    return TableCell(column, value, interval, published, marks)


def _letter(i: int) -> str:
    """a, b .. z, aa, ab .."""
    return ("" if i < 26 else _letter(i // 26 - 1)) + "abcdefghijklmnopqrstuvwxyz"[i % 26]
