"""Comparing the identities of two runs: what differs of all that can change a description.

Parts of a checkpoint are compared by what is in their files; where one side does not know that (its
files were not there yet), by repository and revision.
"""

from collections.abc import Mapping
from typing import Any

CHECKPOINT = "baseline.checkpoint"

Identity = Mapping[str, Any]


def differences(there: Identity, now: Identity) -> dict[str, tuple[Any, Any]]:
    """Key -> its value there and now, for every key in which two identities differ."""
    found = {
        key: (there.get(key), now.get(key))
        for key in sorted(there.keys() | now.keys())
        if key != CHECKPOINT and there.get(key) != now.get(key)
    }
    ours, theirs = now.get(CHECKPOINT) or {}, there.get(CHECKPOINT) or {}
    for part in sorted(ours.keys() | theirs.keys()):
        one, other = theirs.get(part), ours.get(part)
        if not same_part(one, other):
            found[f"{CHECKPOINT}.{part}"] = one, other
    return found


def same_part(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Whether two parts of checkpoints hold the same tensors, as far as is known."""
    if one is None or other is None or one.get("ignore") != other.get("ignore"):
        return one == other
    if "content" in one and "content" in other:
        return bool(one["content"] == other["content"])
    return _source(one) == _source(other)


def _source(part: Mapping[str, Any]) -> tuple[Any, ...]:
    return part.get("repo"), part.get("revision")


def richer(there: Identity, now: Identity) -> Identity:
    """Merge two identities without differences: of each part, the more detailed one."""
    theirs, ours = there.get(CHECKPOINT), now.get(CHECKPOINT)
    if not theirs or not ours:
        return now
    parts = {
        name: part if "content" in part else theirs.get(name, part) for name, part in ours.items()
    }
    return {**now, CHECKPOINT: parts}
