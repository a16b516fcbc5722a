"""The curve of a run: loss and rate by step, as csv and as a picture."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ovmer.runners.disk import replace_file


def write_curve(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write curve.csv and curve.png of what the Trainer has logged."""
    rows = [(e["step"], e["loss"], e["learning_rate"]) for e in history if "loss" in e]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("step", "loss", "learning_rate"), *rows])
    replace_file(folder / "curve.csv", text.getvalue().encode())
    if rows:
        replace_file(folder / "curve.png", _picture(rows))


def _picture(rows: Sequence[tuple[int, float, float]]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([row[0] for row in rows], [float(row[1]) for row in rows])
    axes.set_xlabel("step")
    axes.set_ylabel("training loss")
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
