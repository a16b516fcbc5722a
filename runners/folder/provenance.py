"""Code, packages and machine of a session, as run.json records them."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "ovmer",
    "torch",
    "transformers",
    "accelerate",
    "vllm",
    "numpy",
    "decord",
    "av",
    "librosa",
    "hydra-core",
)


def provenance() -> dict[str, Any]:
    """Python, packages, commit and hardware of this process, as plain values."""
    return {
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        **_commit(Path(__file__).parents[2]),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        **_gpus(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit(folder: Path) -> dict[str, Any]:
    """The commit of a checkout and whether files differ from it; nothing where it is none."""
    if not (folder / ".git").exists():
        return {}
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {}


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return done.stdout.strip()


def _gpus() -> dict[str, Any]:
    """The GPUs, the driver's CUDA and what torch may compute attention with there."""
    torch = sys.modules.get("torch")  # if the run did not need it, no GPU took part
    if torch is None or not torch.cuda.is_available():
        return {"gpus": []}
    from ovmer.baselines.device import attention_backends

    return {
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
        "attention": attention_backends(),
    }
