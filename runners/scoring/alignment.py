"""Runs side by side: one metric and conditions, the same clips, the same clusters of clips."""

from collections.abc import Mapping

from ovmer.baselines.errors import PrerequisiteError, near
from ovmer.runners.scoring.result import Scores


def on_common_clips(
    runs: Mapping[str, Scores], missing: str = "error"
) -> tuple[dict[str, Scores], list[str]]:
    """The runs on the clips that all of them have, and a note where some lack any.

    Raises PrerequisiteError where they differ in clips and `missing` is not skip.
    """
    sets = {name: set(each.contributions.clips) for name, each in runs.items()}
    common = sorted(set.intersection(*sets.values()))
    every = set.union(*sets.values())
    if len(common) == len(every):
        return dict(runs), []
    lacking = ", ".join(
        f"{name} ({len(every) - len(found)})" for name, found in sets.items() if found != every
    )
    what = f"clips that not all runs have: {len(every) - len(common)} of {len(every)}"
    if missing != "skip":
        raise PrerequisiteError(
            f"{what}; lacking in {lacking}; missing=skip compares on the other "
            f"{len(common)}, missing=zero counts them as clips without labels"
        )
    if not common:
        raise PrerequisiteError(f"{what}; lacking in {lacking}; there is nothing to compare on")
    note = f"compared on {len(common)} clips, without {what}; lacking in {lacking}"
    return {name: each.restricted(common) for name, each in runs.items()}, [note]


def in_same_clusters(runs: Mapping[str, Scores]) -> dict[str, Scores]:
    """The runs with the clusters that some of them know: a file of predictions knows none.

    Raises PrerequisiteError where two runs put a clip in different clusters.
    """
    known: dict[str, str] = {}
    what = ""
    for name, scores in runs.items():
        sample = scores.contributions
        for clip, cluster in zip(sample.clips, sample.clusters, strict=False):
            if known.setdefault(clip, cluster) != cluster:
                raise PrerequisiteError(
                    f"{name} has the clip {clip!r} in the cluster {cluster!r}, another run in "
                    f"{known[clip]!r}; say cluster=PATTERN or cluster=none for all"
                )
        what = what or scores.cluster
    if not known:
        return dict(runs)
    return {
        name: each if each.contributions.clusters else each.in_clusters(known, what)
        for name, each in runs.items()
    }


def check_comparable(runs: Mapping[str, Scores], figure: str | None) -> Scores:
    """Check that runs are comparable, whatever their clips; returns the first."""
    if len(runs) < 2:
        raise PrerequisiteError("a comparison needs two runs; give at least two")
    name, first = next(iter(runs.items()))
    for other, scores in runs.items():
        if scores.metric != first.metric:
            what = f"metric ({first.metric} and {scores.metric})"
        elif scores.conditions != first.conditions:
            what = f"conditions ({dict(first.conditions)} and {dict(scores.conditions)})"
        else:
            continue
        raise PrerequisiteError(f"{name} and {other} cannot be compared: they differ in {what}")
    if figure is not None and figure not in first.figures:
        raise PrerequisiteError(f"there is no figure {figure!r}; {near(figure, first.figures)}")
    return first
