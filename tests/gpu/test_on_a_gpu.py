"""The checks of the smoke script as tests, on a machine with a GPU: `pytest -m gpu`."""

import pytest
import torch

from tests.gpu import engines, killed, memory, models, numerics
from tests.gpu.table import FAIL

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.timeout(600),
]


@pytest.mark.parametrize(
    "check",
    [numerics.check, memory.check, killed.check, engines.check_runners, engines.check],
    ids=["numerics", "memory", "killed", "runners", "engines"],
)
def test_no_row_fails(check):
    assert [row for row in check("cuda") if row.verdict == FAIL] == []


@pytest.mark.parametrize("name", models.names())
def test_a_miniature_says_on_the_gpu_what_it_says_on_the_cpu(name):
    rows = [row for row in models.check("cuda", name) if row.item.split()[0] == name]
    assert rows
    assert [row for row in rows if row.verdict == FAIL] == []
