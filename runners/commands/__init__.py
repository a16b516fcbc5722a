"""The command line: `ovmer COMMAND ...`. Each module here parses the arguments of one command."""

import ast
import importlib
import os
import signal
import sys
from importlib.resources import files
from typing import NoReturn

from ovmer.baselines.errors import near
from ovmer.baselines.starter import STARTED_BY, end_with_starter

COMMANDS = (
    "list",
    "sweep",
    "describe",
    "report",
    "tables",
    "score",
    "compare",
    "agreement",
    "extract",
    "train",
    "group",
    "check",
    "weights",
    "fetch",
    "cache",
)
"""In the order of `ovmer --help`."""

_USAGE = 2
"""Exit status for a command line that cannot be parsed, as argparse has it."""


end_with_starter()  # a process of an engine imports this before all else


def main() -> NoReturn:
    """Run the command that the first argument names."""
    os.environ.pop(STARTED_BY, None)  # of a program that had an engine before it started us
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in ("", "-h", "--help"):
        print(_help())
        sys.exit(0 if name else _USAGE)
    if name not in COMMANDS:
        print(f"ovmer: there is no command {name!r}; {near(name, COMMANDS)}", file=sys.stderr)
        sys.exit(_USAGE)
    sys.argv[:2] = [f"ovmer {name}"]
    # Nothing has begun while the command is imported: Ctrl-C ends it without a stack trace.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    importlib.import_module(f"{__name__}.{name}").main()
    raise AssertionError(f"{name} did not exit")


def _help() -> str:
    rows = "\n".join(f"  {name:<10}{_summary(name)}" for name in COMMANDS)
    return (
        "usage: ovmer COMMAND ...\n\nMultimodal LLMs for open-vocabulary emotion recognition.\n\n"
        f"{rows}\n\n`ovmer COMMAND --help` lists the arguments of a command."
    )


def _summary(name: str) -> str:
    """First line of the command's docstring, read without importing what it needs."""
    text = files(__name__).joinpath(f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
