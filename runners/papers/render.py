"""A table as text to read: Markdown, LaTeX (booktabs), plain; and as csv to work with.

A few lines a model: ours, its interval, s, print, the difference with its noise, the ranks.
"""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

from tabulate import tabulate

from ovmer.runners.papers.table import PaperTable, TableCell, TableRow
from ovmer.runners.trained_on import COLUMN, over

_EMPTY = "–"
Raise = Callable[[str], str]
"""Letters -> letters set above the line."""


def plain(table: PaperTable) -> str:
    """Render as text for the terminal."""
    text = _aligned(_grid(table, lambda letters: f"^{letters}"), "simple")
    return "\n".join([table.layout.title, "", text, "", *_footnotes(table)])


def markdown(table: PaperTable) -> str:
    """Render as Markdown, with a title."""
    header, body = _grid(table, lambda letters: f"<sup>{letters}</sup>")
    rows = [[cell.replace("|", "\\|") for cell in row] for row in (header, *body)]
    notes = [f"- {note}" for note in _footnotes(table)]
    text = _aligned((rows[0], rows[1:]), "pipe")
    return "\n".join([f"# {table.layout.title}", "", text, "", *notes, ""])


def _aligned(grid: tuple[list[str], list[list[str]]], style: str) -> str:
    header, body = grid
    align = ["left"] * 4 + ["right"] * (len(header) - 4)
    return tabulate(body, header, style, colalign=align, disable_numparse=True)


def latex(table: PaperTable) -> str:
    """A `table*` for booktabs, which needs no other package.

    tabulate's styles have no `\\addlinespace` between models, so its body is written here.
    """
    header, body = _grid(table, lambda letters: f"\\textsuperscript{{{letters}}}", _tex)
    columns = "llll" + "r" * (len(header) - 4)
    lines = []
    for i, row in enumerate(body):
        if i and row[0]:
            lines.append("\\addlinespace")
        lines.append(" & ".join(row).replace(_EMPTY, "--").replace("±", "$\\pm$") + " \\\\")
    # The braces keep a note that begins with [ from being taken for the item's label.
    notes = [f"\\item{{}} {_tex(note)}" for note in _footnotes(table)]
    return "\n".join(
        [
            "% \\usepackage{booktabs}",
            "\\begin{table*}",
            "\\centering\\scriptsize",
            f"\\caption{{{_tex(table.layout.title)}}}",
            f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule",
            " & ".join(map(_tex, header)) + " \\\\",
            "\\midrule",
            *lines,
            "\\bottomrule",
            "\\end{tabular}",
            "\\begin{itemize}\\footnotesize",
            *notes,
            "\\end{itemize}",
            "\\end{table*}",
            "",
        ]
    )


def tidy(table: PaperTable) -> str:
    """One row a cell, as csv; numbers as they are, not rounded."""
    rows = cell_rows(table)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def cell_rows(table: PaperTable) -> list[dict[str, Any]]:
    """One dict a cell: which, our figure and its interval, the printed one; "" where unknown."""
    return [_cell_row(table, line, cell) for line in table.lines for cell in line.cells]


def _cell_row(table: PaperTable, line: TableRow, cell: TableCell) -> dict[str, Any]:
    column, print_, (low, high) = cell.column, cell.published, cell.interval or ("", "")
    ranks = table.ranks(cell) or ("", "")
    return {
        "layout": table.layout.name,
        "model": line.row.model,
        "inputs": line.row.inputs,
        "baseline": line.row.baseline or "",
        "column": column.title,
        "dataset": column.dataset or "",
        "metric": column.metric,
        "figure": column.figure,
        "trained_on": over(line.row.baseline, [column.dataset] if column.dataset else []),
        "ours": "" if cell.ours is None else cell.ours,
        "low": low,
        "high": high,
        "published": "" if print_ is None else print_.text,
        "published_std": "" if print_ is None or print_.std is None else print_.std,
        "spread": "" if cell.spread is None else cell.spread,
        "difference": "" if cell.difference is None else cell.difference,
        "difference_half_width": "" if cell.noise is None else cell.noise,
        "rank_low": ranks[0],
        "rank_high": ranks[1],
        "comparable": str(cell.is_comparable).lower() if cell.ours is not None else "",
        "why": "; ".join(mark.text for mark in cell.marks),
        "folder": cell.folder or "",
        "source": "" if print_ is None else print_.source,
    }


def _grid(
    table: PaperTable, above: Raise, escape: Callable[[str], str] = str
) -> tuple[list[str], list[list[str]]]:
    header = ["model", "in", COLUMN, "", *(column.title for column in table.layout.columns)]
    body = []
    for line in table.lines:
        for i, (kind, cells) in enumerate(_lines_of(table, line, above)):
            letters = table.row_letters(line)
            name = escape(line.row.model) + (above(letters) if letters else "")
            first = [name, line.row.inputs, line.trained_on] if i == 0 else ["", "", ""]
            body.append([*first, kind, *cells])
    for i, (kind, cells) in enumerate(_summary_lines(table)):
        body.append(["all rows: ours less print" if i == 0 else "", "", "", kind, *cells])
    return header, body


def _summary_lines(table: PaperTable) -> list[tuple[str, Sequence[str]]]:
    """Below the rows, what the differences of each column say together."""
    found = table.summaries
    if not any(found):
        return []
    return [
        ("mean", ["" if each is None else f"{each.mean:+.2f}" for each in found]),
        ("", ["" if each is None else f"±{each.half:.2f}" for each in found]),
        ("RMS", ["" if each is None else f"{each.rms:.2f}" for each in found]),
        ("p", ["" if each is None else f"{each.p:.3f}" for each in found]),
        ("rows", ["" if each is None else str(each.rows) for each in found]),
    ]


def _lines_of(table: PaperTable, line: TableRow, above: Raise) -> list[tuple[str, Sequence[str]]]:
    lines: list[tuple[str, Sequence[str]]] = [
        ("ours", [_ours(table, line, cell, above) for cell in line.cells])
    ]
    if any(cell.interval for cell in line.cells):
        lines.append(("", [_interval(cell) for cell in line.cells]))
    if any(cell.spread is not None for cell in line.cells):
        lines.append(("s", [_number(cell.spread) for cell in line.cells]))
    if any(table.ranks(cell) for cell in line.cells):
        lines.append(("rank", [_rank(table.ranks(cell)) for cell in line.cells]))
    if any(cell.published for cell in line.cells):
        lines.append(("print", [_printed(cell) for cell in line.cells]))
    if any(cell.difference is not None for cell in line.cells):
        lines.append(("diff.", [_difference(cell) for cell in line.cells]))
        lines.append(("", [_noise(cell) for cell in line.cells]))
    return lines


def _ours(table: PaperTable, line: TableRow, cell: TableCell, above: Raise) -> str:
    letters = table.cell_letters(line, cell)
    value = _EMPTY if cell.ours is None else f"{cell.ours:.2f}"
    return value + (above(letters) if letters else "")


def _interval(cell: TableCell) -> str:
    return f"[{cell.interval[0]:.1f}, {cell.interval[1]:.1f}]" if cell.interval else ""


def _printed(cell: TableCell) -> str:
    if cell.published is None:
        return ""
    deviation = "" if cell.published.std is None else f" ±{cell.published.std:.2f}"
    return f"{cell.published.value:.2f}{deviation}"


def _difference(cell: TableCell) -> str:
    if cell.difference is None:
        return ""
    return "0.00" if abs(cell.difference) < 0.005 else f"{cell.difference:+.2f}"


def _noise(cell: TableCell) -> str:
    if cell.difference is None:
        return ""
    return "n. k." if cell.noise is None else f"±{cell.noise:.2f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _rank(ranks: tuple[int, int] | None) -> str:
    if ranks is None:
        return ""
    low, high = ranks
    return f"{low}" if low == high else f"{low}-{high}"


def _footnotes(table: PaperTable) -> list[str]:
    return [*(f"{letter}: {text}" for text, letter in table.letters.items()), *table.notes]


_TEX = {each: f"\\{each}" for each in "&%$#_{}"} | {
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "–": "--",
    "±": "$\\pm$",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)
