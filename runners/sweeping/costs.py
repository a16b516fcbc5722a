"""Costs of a run: tokens, hours and, if prices are set, money."""

from typing import Any

from ovmer.runners.config import PriceSettings
from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.sweeping.state import JobState


def money(price: PriceSettings, prompt_tokens: float, new_tokens: float) -> float | None:
    """The price of a prompt and its answer in tokens; None where no price is set."""
    if price.prompt is None and price.answer is None:
        return None
    return ((price.prompt or 0) * prompt_tokens + (price.answer or 0) * new_tokens) / 1e6


def estimate(state: JobState) -> str:
    """Estimate the cost of the remaining clips from those that this run has described.

    One sentence. The rate is that of the run's last session, with its machine; an estimate for
    another machine needs a few clips described there.
    """
    job, left = state.job, len(state.to_describe)
    if not left:
        return f"{job.label}: nothing is left to describe"
    sessions = info.sessions if (info := RunFolder(job.folder).find_info()) else []
    speeds: list[dict[str, Any]] = [each["speed"] for each in sessions if "speed" in each]
    clips = sum(each["clips"] for each in speeds)
    if not clips:
        return (
            f"{job.label}: clips left: {left}; nothing is measured yet: describe a few with "
            "limit=8, then ask again"
        )
    scale = left / clips
    tokens = [scale * sum(each[key] for each in speeds) for key in ("prompt_tokens", "new_tokens")]
    last = [each for each in speeds if each["clips"]][-1]
    hours = left * last["seconds"] / last["clips"] / 3600
    rate = f" at {last['clips'] / last['seconds']:.2f} clips/s" if last["seconds"] else ""
    words = [f"clips left: {left}", f"{_long(hours)}{rate}"]
    if any(tokens):
        words.append(f"{_short(tokens[0])} prompt tokens and {_short(tokens[1])} new ones")
    if (amount := money(job.settings.price, *tokens)) is not None:
        words.append(f"{amount:.2f} {job.settings.price.currency}")
    return f"{job.label}: {', '.join(words)}; estimated from {clips} clips that were described"


def _long(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"


def _short(tokens: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return f"{tokens / size:.1f} {letter}"
    return f"{tokens:.0f}"
