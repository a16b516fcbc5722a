"""A run's results in the shapes that others read: a table, and the authors' two npz files.

`results-<baseline>.npz` holds `name2reason`, a dict from clip to description, as a 0-d object
array; `<baseline>-openset.npz` holds `filenames` and `fileitems`, the labels as texts in brackets
(AffectGPT repository, OV-MER/main-ovmer.py and the label extraction after it). Their readers look
up every clip of the data set, so one that failed is listed with an empty text; that it failed,
and why, is said in `predictions.csv` alone, which is what scores and comparisons read. There labels
are a list as Python writes it, like the truth of OV-MERD: `ast.literal_eval` reads it.

Of a challenge's candidates, which have no truth, there is also `submission.csv`: name, and the
column that the organisers' scorers read (MERTools: MER2025_Track1, MER2026_Track1 and 2). For
Track 2 of MER2025 CodaLab took `*-openset.npz` (README of MER2025_Track23).
"""

import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.disk import replace_file, replacing
from ovmer.runners.folder.records import Prediction
from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.folder.run_json import ANSWERED
from ovmer.runners.foreign_text import guarded
from ovmer.runners.scoring.label_files import (
    Columns,
    LabelFile,
    collect,
    read_label_file,
)
from ovmer.runners.table_files import read_table

_TABLE, _SUBMISSION = "predictions.csv", "submission.csv"


def write_exchange_files(
    folder: RunFolder,
    baseline: str,
    predictions: Iterable[Prediction],
    labels: Mapping[str, Sequence[str]],
    submission: str | None = None,
) -> None:
    """Write the files; `labels` has no entry for a clip that failed.

    `submission` is the column of the organisers' file, None where there is none to write.
    """
    opensets, said = dict[str, str](), dict[str, str]()
    with replacing(folder.path / _TABLE) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")
        writer = csv.writer(text)
        writer.writerow(["name", "status", "openset", "description", "error"])
        for each in predictions:
            found = labels.get(each.name)
            texts = map(guarded, (each.description, each.error or ""))
            openset = "" if found is None else str(list(found))
            writer.writerow([each.name, each.status, openset, *texts])
            opensets[each.name] = f"[{', '.join(found or ())}]"
            # Interned, as a pickle tells one string that stands twice from two equal ones.
            said[sys.intern(each.name)] = sys.intern(each.description)
        text.detach()
    if submission is not None:
        replace_file(folder.path / _SUBMISSION, _submission(submission, opensets).encode())
    reasons, items = _npz_names(baseline)
    _write_npz(folder, reasons, name2reason=said)
    _write_npz(folder, items, filenames=list(opensets), fileitems=list(opensets.values()))


def has_exchange_files(folder: RunFolder, baseline: str, submission: str | None) -> bool:
    """Whether all files that `write_exchange_files` writes are still there."""
    names = [_TABLE, *_npz_names(baseline), *([] if submission is None else [_SUBMISSION])]
    return all((folder.path / name).is_file() for name in names)


def read_labels(path: Path, columns: Columns) -> LabelFile:
    """Labels by clip, of a file or as the last session of a run folder left them.

    Clips that failed are left out. Raises PrerequisiteError for a folder or file without labels.
    """
    if not path.is_dir():
        return read_label_file(path, columns)
    table = path / _TABLE
    if not table.exists():
        return _unfinished(path)
    content = read_table(table)
    rows = list(content.rows)
    status = next((at for at, name in content.header.items() if name == "status"), None)
    kept = rows if status is None else [row for row in rows if row[status] in ANSWERED]
    if rows and not kept:
        raise PrerequisiteError(f"every clip in {path} failed, so there is nothing to score")
    found = collect(table, replace(content, rows=kept), columns)
    if len(kept) < len(rows):
        found.notes.append(f"{len(rows) - len(kept)} of {len(rows)} clips in {path} failed")
    return found


def _unfinished(path: Path) -> LabelFile:
    """The last labels of each clip, where no session has come to its end."""
    labelled = RunFolder(path).read_labels().values()
    labels = {each.name: list(each.labels) for each in labelled if each.error is None}
    if not labels:
        raise PrerequisiteError(f"{path} is no run folder with labels: it holds no {_TABLE}")
    return LabelFile(labels, [f"{path} is unfinished: read what it holds so far"])


def _npz_names(baseline: str) -> tuple[str, str]:
    return f"results-{baseline}.npz", f"{baseline}-openset.npz"


def _submission(column: str, opensets: Mapping[str, str]) -> str:
    """Every candidate in the data set's order; only open-vocabulary labels are in brackets."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["name", column])
    brackets = column == "openset"
    writer.writerows([name, text if brackets else text[1:-1]] for name, text in opensets.items())
    return table.getvalue()


def _write_npz(folder: RunFolder, name: str, **arrays: Any) -> None:
    import numpy as np

    with replacing(folder.path / name) as file:
        np.savez_compressed(file, **arrays)
