"""Composing a job in this process, as the commands do in theirs."""

from hydra import compose, initialize_config_dir

from ovmer.runners.config import CONF, CONFIG_NAME, VERSION_BASE, register, settings_of
from ovmer.runners.job import Job


def job(*overrides: str) -> Job:
    register()
    with initialize_config_dir(str(CONF), version_base=VERSION_BASE):
        return Job(settings_of(compose(CONFIG_NAME, list(overrides))), overrides)
