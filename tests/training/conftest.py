"""A dry run of training that the tests of it share."""

from pathlib import Path

import pytest

from ovmer.runners.training.run import TrainingRun
from ovmer.runners.training.settings import compose_train

DRY = ("recipe=affectgpt", "dry_run=true", "train.report_to=[]")


def train(*overrides: str) -> TrainingRun:
    """Train in this process, where the test stands; returns the run."""
    run = TrainingRun(compose_train(list(overrides)), list(overrides))
    run.train()
    return run


@pytest.fixture(scope="session")
def dry_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of `ovmer train recipe=affectgpt dry_run=true`."""
    outputs = tmp_path_factory.mktemp("train")
    return train(*DRY, f"outputs={outputs}").folder


QWEN_7B = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
}
"""Sizes of Qwen2.5-7B."""
