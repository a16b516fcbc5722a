"""The arrows of the house: runners -> adapters -> baselines, never back."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {"baselines": {"adapters", "runners", "hydra"}, "adapters": {"runners", "hydra"}}
HEAVY = {"torch", "transformers", "decord", "librosa", "vllm", "ray", "pandas"}


def imports(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("folder", sorted(FORBIDDEN))
def test_imports_run_one_way(folder):
    wrong = {
        str(path.relative_to(ROOT)): sorted(bad)
        for path in (ROOT / folder).rglob("*.py")
        if (bad := imports(ast.parse(path.read_text())) & FORBIDDEN[folder])
    }
    assert not wrong


def test_adapters_and_runners_import_heavy_packages_only_inside_functions():
    wrong = {}
    for folder in ("adapters", "runners"):
        for path in (ROOT / folder).rglob("*.py"):
            top = ast.Module(
                [
                    n
                    for n in ast.parse(path.read_text()).body
                    if isinstance(n, ast.Import | ast.ImportFrom)
                ],
                [],
            )
            if bad := imports(top) & HEAVY:
                wrong[str(path.relative_to(ROOT))] = sorted(bad)
    assert not wrong
