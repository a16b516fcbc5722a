"""Run a module as `python -m` does, then name the top-level packages that it imported."""

import runpy
import sys

if __name__ == "__main__":
    del sys.argv[0]
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    finally:
        packages = sorted({name.partition(".")[0] for name in sys.modules})
        print("\n" + " ".join(packages), file=sys.stderr)
