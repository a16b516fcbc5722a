"""Try the bounds of setup.cfg: install the oldest or the newest versions, and use them.

    python -m tests.bounds oldest [PYTHON]      # uv's --resolution lowest-direct
    python -m tests.bounds newest [PYTHON]

PYTHON is a version such as 3.13, or an interpreter; by default the one that runs this. It takes
some ten minutes on two cores. Afterwards it runs the tests that need no engine and the demo's sweep
in that environment. The versions are printed before.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests import ROOT

RESOLUTION = {"oldest": "lowest-direct", "newest": "highest"}
TESTS = "tests/test_public.py tests/test_golden.py tests/adapters tests/data tests/scoring".split()
SWEEP = "sweep -m baseline=random,lexicon,video_llava,qwen2_5_omni dry_run=true limit=3".split()


def run(*command: str | Path, cwd: Path = ROOT) -> int:
    print("$", " ".join(map(str, command)), flush=True)
    return subprocess.run(command, cwd=cwd, env=os.environ | {"OMP_NUM_THREADS": "1"}).returncode


def main(which: str, python: str = sys.executable) -> int:
    """Returns 0 where everything installed and passed."""
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "environment"
        interpreter = environment / "bin" / "python"
        uv = [sys.executable, "-m", "uv"]
        steps: Sequence[Sequence[str | Path]] = (
            [*uv, "venv", "--quiet", "--python", python, environment],
            [*uv, "pip", "install", "--quiet", "--python", interpreter,
             "--resolution", RESOLUTION[which], "--editable", ".[test]"],
        )  # fmt: skip
        for step in steps:
            if run(*step):
                return 1
        run(*uv, "pip", "freeze", "--python", interpreter, "--quiet")
        tested = run(interpreter, "-m", "pytest", "-n", "2", *TESTS)
        swept = run(interpreter, "-m", "ovmer", *SWEEP, cwd=Path(folder))
        print(f"{which}: tests {tested}, sweep {swept} (0: well)")
        return tested or swept


if __name__ == "__main__":
    if sys.argv[1:2] not in (["oldest"], ["newest"]):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:3]))
