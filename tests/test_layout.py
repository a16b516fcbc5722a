"""Imports go one way, runners -> adapters -> baselines, and there is no cycle of them."""

import ast
from pathlib import Path

import pytest

from tests import ROOT

FOLDERS = ("ovmer", "runners", "conf", "adapters", "baselines")
FORBIDDEN = {"baselines": {"adapters", "runners", "hydra"}, "adapters": {"runners", "hydra"}}
HEAVY = {"torch", "transformers", "decord", "librosa", "vllm", "ray", "pandas"}
STAGES = ("data", "describing", "extraction", "scoring", "folder", "papers", "report")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "ovmer" else ("ovmer", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_of(path): path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))
}


def imported(tree: ast.AST) -> set[str]:
    """Dotted names of all that is imported, inside functions too, but for types alone."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        found |= imported(node)
    return found


def imports(path: Path) -> set[str]:
    return imported(ast.parse(path.read_text("utf-8")))


def module_behind(name: str) -> str | None:
    """The module of ours that `a.b.c` is or is taken from."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or None


def parts_of(name: str) -> str:
    """`adapters` of ovmer.adapters.base, `torch` of torch.nn."""
    parts = name.split(".")
    return parts[1] if parts[0] == "ovmer" and len(parts) > 1 else parts[0]


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The shortest path from each node back to itself, if there is one."""
    found = []
    for start in graph:
        paths = [[start]]
        seen: set[str] = set()
        for path in paths:
            for target in sorted(graph[path[-1]] - seen):
                if target == start:
                    found.append([*path, start])
                    paths.clear()
                    break
                seen.add(target)
                paths.append([*path, target])
    return found


@pytest.mark.parametrize("folder", sorted(FORBIDDEN))
def test_imports_go_one_way(folder):
    wrong = {
        str(path.relative_to(ROOT)): sorted(bad)
        for path in (ROOT / folder).rglob("*.py")
        if (bad := {parts_of(name) for name in imports(path)} & FORBIDDEN[folder])
    }
    assert not wrong


def test_no_module_imports_itself_by_way_of_others():
    graph = {
        module: {target for name in imports(path) if (target := module_behind(name))} - {module}
        for module, path in MODULES.items()
    }
    assert sum(map(len, graph.values())) > 500  # imports were found at all
    assert cycles(graph) == []


def test_no_package_of_runners_imports_itself_by_way_of_others():
    def unit(module: str) -> str:
        return module.split(".")[2]

    graph: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        if module.startswith("ovmer.runners."):
            targets = (module_behind(name) for name in imports(path))
            ours = {unit(t) for t in targets if t and t.startswith("ovmer.runners.")}
            graph.setdefault(unit(module), set()).update(ours - {unit(module)})
    assert cycles(graph) == []


@pytest.mark.parametrize("stage", STAGES)
def test_stages_do_not_import_commands(stage):
    wrong = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "runners" / stage).rglob("*.py")
        if any(name.startswith("ovmer.runners.commands") for name in imports(path))
    }
    assert not wrong


def test_cycles_are_found():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c", "b"], ["c", "b", "c"]]


def test_adapters_and_runners_import_heavy_packages_only_inside_functions():
    wrong = {}
    for folder in ("adapters", "runners"):
        for path in (ROOT / folder).rglob("*.py"):
            body = ast.parse(path.read_text("utf-8")).body
            top = ast.Module([n for n in body if isinstance(n, ast.Import | ast.ImportFrom)], [])
            if bad := {name.split(".")[0] for name in imported(top)} & HEAVY:
                wrong[str(path.relative_to(ROOT))] = sorted(bad)
    assert not wrong
