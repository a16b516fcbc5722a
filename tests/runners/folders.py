"""Run folders as finished runs leave them, without running anything: for tables and reports."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ovmer.runners.papers.layout import Column, read_layout

EXTRACTOR = {"name": "qwen25", "model": "Qwen/Qwen2.5-7B-Instruct", "temperature": 0.7}
"""As print has it."""


def write_run(
    outputs: Path,
    baseline: str,
    dataset: str,
    figures: Mapping[str, float],
    metric: str = "wheel",
    *,
    name: str | None = None,
    clips: int = 332,
    subtitle: str = "prompt",
    extraction: str = "qwen25-paper",
    extractor: Mapping[str, Any] | None = None,
    dry_run: bool = False,
    generation: str = "paper",
    vocabulary: str = "mer2025",
    grouped_by: str = "gpt-3.5-turbo-16k-0613",
    overrides: tuple[str, ...] = (),
    fields: Mapping[str, Any] | None = None,
    identity: Mapping[str, Any] | None = None,
    machine: str = "auto",
    status: Mapping[str, int] | None = None,
    problem: str | None = None,
    answers: str = "descriptions",
    task: str = "describe",
    language: str = "english",
) -> Path:
    """`outputs/DATASET/NAME` with run.json and scores.json; `figures` lie in [0, 1]."""
    folder = outputs / dataset / (name or baseline)
    folder.mkdir(parents=True)
    settings = {
        "baseline": {
            "name": baseline,
            "title": baseline,
            "generation": {"paper": {}},
            **(fields or {}),
        },
        "machine": {"dtype": machine},
        "dataset": {"name": dataset, "labels": {"column": "openset"}, "language": language},
        "generation": generation,
        "subtitle": subtitle,
        "task": {"name": task},
    }
    run = {
        "identity": {
            "baseline.adapter": baseline,
            "dry_run": dry_run,
            "subtitle": "prompt" if subtitle == "prompt" else "none",
            **(identity or {}),
        },
        "settings": settings,
        "answers": answers,
        "clips": clips,
        "status": {"ok": clips} if status is None else dict(status),
        "sessions": [{"overrides": list(overrides)}],
        **({"problem": problem} if problem else {}),
    }
    (folder / "run.json").write_text(json.dumps(run), "utf-8")
    if figures:
        told = extractor or EXTRACTOR
        conditions = {"parser": "strict"}
        conditions |= (
            {"grouped_by": grouped_by} if metric == "grouping" else {"vocabulary": vocabulary}
        )
        entry = {
            "figures": dict(figures),
            "intervals": {key: [value - 0.03, value + 0.03] for key, value in figures.items()},
            "comparable_with_papers": vocabulary != "shipped",
            "conditions": conditions,
            "n_clips": clips,
            "metric": metric,
            "primary": next(iter(figures)),
            "extractor": told,
        }
        merged = "-merge" if subtitle == "merge" else ""
        scores = {f"{extraction}{merged}/{metric}": entry}
        (folder / "scores.json").write_text(json.dumps(scores), "utf-8")
    return folder


def write_unibench(outputs: Path, baselines: list[str], value: float = 0.5) -> None:
    """A finished run of each baseline on each of the nine data sets."""
    for i, baseline in enumerate(baselines):
        for column in read_layout("mer_unibench").columns:
            if column.dataset is not None:
                write_run(
                    outputs,
                    baseline,
                    column.dataset,
                    _figures(column, value + i / 100),
                    column.metric,
                    clips=column.clips or 0,
                )


def _figures(column: Column, value: float) -> dict[str, float]:
    return {column.figure: value}
