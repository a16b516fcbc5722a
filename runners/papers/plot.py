"""A forest plot: our figure with its interval against the printed one, a panel for each column."""

from pathlib import Path
from typing import TYPE_CHECKING

from ovmer.runners.papers.layout import Column
from ovmer.runners.papers.table import PaperTable, TableCell

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ACROSS = 5  # panels side by side
_OURS, _ODD, _PRINT = "#1f5fa8", "#9aa5b1", "#c2410c"


def forest(table: PaperTable, path: Path) -> None:
    """Write the plot; the ending of the path tells its kind (png, pdf, svg)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    shown = [i for i, c in enumerate(table.layout.columns) if c.title in table.layout.plot]
    lines = table.lines
    across = min(len(shown), _ACROSS)
    down = -(-len(shown) // across)
    figure = Figure(
        figsize=(2.4 + 1.9 * across, 1.2 + down * (0.5 + 0.22 * len(lines))),
        dpi=150,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(down, across, sharey=True, squeeze=False).flatten()
    for axis in axes[len(shown) :]:
        axis.remove()
    for axis, i in zip(axes, shown, strict=False):
        for y, line in enumerate(lines):
            _mark(axis, y, line.cells[i])
        _dress(axis, table.layout.columns[i], len(lines))
    names = [f"{line.row.model} ({line.row.inputs})".replace(" ()", "") for line in lines]
    axes[0].set_yticks(range(len(lines)), [_short(name) for name in names], fontsize=7)
    axes[0].set_ylim(len(lines) - 0.5, -0.5)
    figure.suptitle(table.layout.title, fontsize=9)
    cells = [line.cells[i] for line in lines for i in shown]
    kinds = [("D", _PRINT, "none", "print, ± its deviation")]
    if any(cell.is_comparable for cell in cells):
        kinds.append(("o", _OURS, "full", "ours, 95 % interval"))
    if any(cell.ours is not None and not cell.is_comparable for cell in cells):
        kinds.append(("o", _ODD, "full", "ours, not comparable"))
    handles = []
    for marker, color, fill, label in kinds:
        handle = Line2D([], [], marker=marker, color=color, linestyle="none", label=label)
        handle.set_fillstyle("none" if fill == "none" else "full")
        handle.set_markersize(5)
        handles.append(handle)
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    figure.savefig(path)


def _dress(axis: "Axes", column: Column, lines: int) -> None:
    axis.set_title(column.title, fontsize=8)
    axis.tick_params(labelsize=7, length=2)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color="#e5e7eb", linewidth=0.6)
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.margins(x=0.12)
    low, high = axis.get_xlim()
    if high - low < (least := column.unit / 50):  # one figure alone
        axis.set_xlim((low + high - least) / 2, (low + high + least) / 2)
    for y in range(0, lines, 2):
        axis.axhspan(y - 0.5, y + 0.5, color="#f3f4f6", zorder=-1, linewidth=0)


def _mark(axis: "Axes", y: int, cell: TableCell) -> None:
    if cell.published is not None:
        value, std = cell.published.value, cell.published.std
        if std is not None:
            axis.plot([value - std, value + std], [y, y], color=_PRINT, linewidth=1)
        axis.plot(value, y, "D", color=_PRINT, fillstyle="none", markersize=5)
    if cell.ours is not None:
        color = _OURS if cell.is_comparable else _ODD
        if cell.interval is not None:
            axis.plot(cell.interval, [y, y], color=color, linewidth=1.4, solid_capstyle="butt")
        axis.plot(cell.ours, y, "o", color=color, markersize=4)


def _short(name: str) -> str:
    return name if len(name) <= 34 else name[:33] + "…"
