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
    """Run one benchmark; returns its exit status and a row of the table for each line printed."""
    started = time.monotonic()
    command = [sys.executable, "-m", f"tests.benchmarks.{name}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parents[1])
    lines = [line.strip().replace("|", "\\|") for line in done.stdout.splitlines() if line.strip()]
    if done.returncode:
        lines.append(f"failed with exit status {done.returncode}")
    lines.append(f"{time.monotonic() - started:.0f} s in all")
    return done.returncode, [f"| {name} | {line} |" for line in lines]


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
        worst = max(worst, status)
        table += found
        OUTPUT.write_text("\n".join(table) + "\n", encoding="utf-8")
        print("\n".join(found), flush=True)
    print(f"-> {OUTPUT}")
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
