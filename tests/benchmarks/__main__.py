"""All benchmarks by one command.

    python -m tests.benchmarks                      # list them
    python -m tests.benchmarks scorer tables        # run these, one after the other
    python -m tests.benchmarks all                  # run all; about an hour on two cores

Each is also a module with arguments of its own (`python -m tests.benchmarks.scorer --help` or its
first lines). What they print becomes one Markdown table, benchmarks.md, under a line that names the
machine. Ratios are taken within one run of one benchmark; times of different runs do not compare.
"""

import ast
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

HERE = Path(__file__).parent
OUTPUT = Path("benchmarks.md")
PACKAGES = ("torch", "transformers")


def benchmarks() -> dict[str, str]:
    """Name -> the first sentence of its description, of every module that is a program."""
    found = {}
    for path in sorted(HERE.glob("[!_]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(
            "__main__" in ast.unparse(node.test) for node in tree.body if isinstance(node, ast.If)
        ):
            first = (ast.get_docstring(tree) or "").split("\n\n")[0].replace("\n", " ")
            found[path.stem] = first.partition(": `python")[0].rstrip(".")
    return found


def machine() -> str:
    """One line: processor, cores, memory, Python and the packages that matter."""
    memory = psutil.virtual_memory().total / 2**30
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}: {platform.processor() or platform.machine()}, "
        f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, {versions}"
    )


def rows(name: str) -> tuple[int, list[str]]:
    """Run one benchmark and print a row of the table for each of its lines, as it comes.

    Returns its exit status and the rows.
    """
    found = list[str]()

    def add(line: str) -> None:
        found.append(f"| {name} | {line} |")
        print(found[-1], flush=True)

    started = time.monotonic()
    command = [sys.executable, "-u", "-m", f"tests.benchmarks.{name}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parents[1]) as run:
        assert run.stdout is not None
        for line in filter(None, map(str.strip, run.stdout)):
            add(line.replace("|", "\\|"))
    if run.returncode:
        add(f"failed with exit status {run.returncode}")
    add(f"{time.monotonic() - started:.0f} s in all")
    return run.returncode, found


def main(names: Sequence[str]) -> int:
    known = benchmarks()
    if not names:
        print("\n".join(f"{name:12}{about}" for name, about in known.items()))
        return 0
    if unknown := [name for name in names if name not in (*known, "all")]:
        print(f"there is no benchmark {unknown[0]}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    table, worst = [machine(), "", "| benchmark | figure |", "|---|---|"], 0
    for name in known if "all" in names else names:
        status, found = rows(name)
        worst = max(worst, abs(status))  # minus the signal that killed it
        table += found
        OUTPUT.write_text("\n".join(table) + "\n", encoding="utf-8")
    print(f"-> {OUTPUT}")
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
