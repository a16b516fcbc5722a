"""Composing a job in this process, as the commands do in theirs."""

from ovmer.runners.config import settings_from_overrides
from ovmer.runners.job import Job


def job(*overrides: str) -> Job:
    return Job(settings_from_overrides(overrides), overrides)
