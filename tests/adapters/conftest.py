"""Miniatures that the tests of a file share."""

import pytest

from ovmer.adapters.native import Native
from tests.adapters.chat_models import MACHINE, configured


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A loaded miniature by the name of its yaml; each is made once."""
    made: dict[str, Native] = {}

    def get(name: str) -> Native:
        if name not in made:
            made[name] = configured(name).miniature(tmp_path_factory.mktemp(name))
            made[name].load(MACHINE)
        return made[name]

    return get
