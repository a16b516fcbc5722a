"""`run.json`: what a run is, and each session that worked on it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ovmer.baselines.errors import Status

SCHEMA = 1
"""Version of run.json and scores.json; 0 is what was written before they said so."""
ANSWERED = (Status.OK, Status.EMPTY)
"""All other kinds of a status are failures."""


def is_dry(identity: Mapping[str, Any]) -> bool:
    """Whether a random miniature answered, or did so in a run that this one joins."""
    sources = (str(each).rpartition("/")[2] for each in identity.get("sources") or ())
    return bool(identity.get("dry_run")) or any("dry" in name.split("-") for name in sources)


@dataclass
class RunInfo:
    """The content of `run.json`."""

    identity: Mapping[str, Any] = field(default_factory=dict)
    """`Job.identity`; empty of an imported run."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    imported: Mapping[str, Any] | None = None
    """For imported predictions: their known origin, instead of settings."""
    answers: str = "descriptions"
    """Or `labels`, which no extractor has to find in a description."""
    clips: int = 0
    sessions: list[dict[str, Any]] = field(default_factory=list)
    exported: str | None = None
    """The `JobState.results` that the exchange files were last written from."""
    problem: str | None = None
    """Why the last session ended, in one sentence."""
    status: Mapping[Status, int] = field(default_factory=dict)
    schema: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for what no run can be without."""
        for group in ("baseline", "dataset"):
            values = self.about.get(group)
            if not isinstance(values, dict) or not isinstance(values.get("name"), str):
                where = "settings" if self.imported is None else "imported"
                raise ValueError(f"its {where} hold no {group} with a name")

    @property
    def about(self) -> Mapping[str, Any]:
        """The settings; for an imported run its known origin instead."""
        return self.settings if self.imported is None else self.imported

    @property
    def baseline(self) -> str:
        """The baseline's name; of a combination those of its parts, `secap+mplug_owl`."""
        sources = self.identity.get("sources")
        if not isinstance(sources, list) or not sources:
            return str(self.about["baseline"]["name"])
        return "+".join(Path(str(source)).name.partition("-")[0] for source in sources)

    @property
    def title(self) -> str:
        baseline = self.about["baseline"]
        return str(baseline.get("title") or baseline["name"])

    @property
    def dataset(self) -> str:
        return str(self.about["dataset"]["name"])

    @property
    def overrides(self) -> tuple[str, ...]:
        """The overrides of all sessions, each once."""
        given = [each for one in self.sessions for each in one.get("overrides") or ()]
        return tuple(dict.fromkeys(map(str, given)))

    @property
    def is_dry(self) -> bool:
        return is_dry(self.identity)

    @property
    def names_labels(self) -> bool:
        return self.answers == "labels"

    @property
    def has_truth(self) -> bool:
        labels = self.about["dataset"].get("labels")
        return not isinstance(labels, dict) or not labels or labels.get("column") is not None

    @property
    def described(self) -> int:
        return sum(self.status.values())

    @property
    def failed(self) -> int:
        return self.described - sum(self.status.get(each, 0) for each in ANSWERED)


def identity_digest(identity: Mapping[str, Any]) -> str:
    """Hash of an identity, stored with each prediction."""
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()
