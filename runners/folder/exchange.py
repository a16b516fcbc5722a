"""A run's results in the shapes that others read: a table, and the authors' two npz files.

`results-<baseline>.npz` holds `name2reason`, a dict from clip to description, as a 0-d object
array; `<baseline>-openset.npz` holds `filenames` and `fileitems`, the labels as texts in brackets
(AffectGPT repository, OV-MER/main-ovmer.py and the label extraction after it). Their readers look
up every clip of the data set, so one that failed stands there with an empty text; that it failed,
and why, is said in `predictions.csv` alone.

Of a challenge's candidates, which have no truth, there is also `submission.csv`: name, and the
column that the organisers' scorers read (MERTools: MER2025_Track1, MER2026_Track1 and 2). For
Track 2 of MER2025 CodaLab took `*-openset.npz` (README of MER2025_Track23).
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from ovmer.runners.folder.records import Prediction
from ovmer.runners.folder.run_folder import RunFolder


def write_exchange_files(
    folder: RunFolder,
    baseline: str,
    predictions: Sequence[Prediction],
    labels: Mapping[str, Sequence[str]],
    submission: str | None = None,
) -> None:
    """Write the files; `labels` has no entry for a clip that failed.

    `submission` is the column of the organisers' file, None where there is none to write.
    """
    opensets = {each.name: f"[{', '.join(labels.get(each.name, ()))}]" for each in predictions}
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["name", "status", "openset", "description", "error"])
    for each in predictions:
        openset = opensets[each.name] if each.name in labels else ""
        writer.writerow([each.name, each.status, openset, each.description, each.error or ""])
    folder.replace("predictions.csv", table.getvalue().encode("utf-8", "replace"))
    if submission is not None:
        folder.replace("submission.csv", _submission(submission, opensets).encode())
    _write_npz(
        folder,
        f"results-{baseline}.npz",
        name2reason={each.name: each.description for each in predictions},
    )
    _write_npz(
        folder,
        f"{baseline}-openset.npz",
        filenames=list(opensets),
        fileitems=list(opensets.values()),
    )


def _submission(column: str, opensets: Mapping[str, str]) -> str:
    """Every candidate in the data set's order; only open-vocabulary labels stand in brackets."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["name", column])
    brackets = column == "openset"
    writer.writerows([name, text if brackets else text[1:-1]] for name, text in opensets.items())
    return table.getvalue()


def _write_npz(folder: RunFolder, name: str, **arrays: Any) -> None:
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    folder.replace(name, buffer.getvalue())
