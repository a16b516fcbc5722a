"""Clusters of clips that are not independent: those of one video, dialogue or speaker.

Intervals that take such clips as independent are too narrow: MOSI's are by a quarter. The rule
is in `conf/dataset/NAME.yaml`; of some data sets it is not known which clips belong together,
and their scores say so.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from ovmer.baselines.errors import PrerequisiteError

if TYPE_CHECKING:
    from ovmer.runners.scoring import Scores


@dataclass
class Cluster:
    """`dataset.cluster`: a pattern or a column; with neither it is not known."""

    what: str = ""
    """Name of what the clips of a cluster share; empty: clips are independent."""
    pattern: str | None = None
    """A regular expression on the clip's name; its groups, joined, name the cluster."""
    column: str | None = None
    """A column of the label table."""


class Clustered(Protocol):
    """A clip, as far as it matters here."""

    @property
    def name(self) -> str: ...
    @property
    def cluster(self) -> str: ...


@dataclass(frozen=True)
class NamedClip:
    """A clip of which no more is known than its name."""

    name: str
    cluster: str


def named_clips(names: Sequence[str], settings: Mapping[str, Any]) -> list[NamedClip]:
    """Clips by name, with the clusters that the pattern of `dataset.cluster` gives."""
    pattern = settings.get("pattern")
    rule = (lambda _: "") if pattern is None else name_rule(str(pattern))
    return [NamedClip(name, rule(name)) for name in names]


def name_rule(pattern: str) -> Callable[[str], str]:
    """Clip name -> cluster name, empty where the pattern does not fit.

    Raises PrerequisiteError for a pattern that is no regular expression.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise PrerequisiteError(
            f"the cluster pattern {pattern!r} is no regular expression: {error}"
        ) from error

    def cluster(name: str) -> str:
        found = expression.search(name)
        return "" if found is None else "/".join(found.groups() or (found[0],))

    return cluster


def in_clusters(
    scores: "Scores", clips: Sequence[Clustered], settings: Mapping[str, Any] | None
) -> "Scores":
    """The scores with the clips' clusters; `settings` is `dataset.cluster`, None of an old run."""
    what = str((settings or {}).get("what") or "")
    if not what:
        return scores
    found = {clip.name: clip.cluster for clip in clips if clip.cluster}
    if found:
        return scores.in_clusters(found, what)
    note = (
        f"which clips share a {what} is not known: intervals take all clips as independent, and "
        "may be too narrow"
    )
    return replace(scores, notes=[*scores.notes, note])
