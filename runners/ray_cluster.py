"""Joining a Ray cluster, or saying in one sentence why not."""

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from ovmer.baselines.errors import PrerequisiteError

_CONNECT_SECONDS = 3.0


def _require_reachable(address: str) -> None:
    """PrerequisiteError where nothing answers at HOST:PORT: Ray itself would try for minutes."""
    if reason := unreachable(address):
        raise PrerequisiteError(_no_cluster(address, reason))


def unreachable(address: str) -> str | None:
    """Why nothing answers at HOST:PORT; None where something does, and for other addresses."""
    host, _, port = address.rpartition(":")
    if not port.isdigit() or "/" in host:
        return None  # `local`, `auto`, or a URL, which names another kind of server
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _no_cluster(address: str, reason: str) -> str:
    if "Authentication" in reason:
        return (
            f"the Ray cluster at {address} asks for a token; set RAY_AUTH_MODE=token, and copy its "
            "~/.ray/auth_token to here"
        )
    return (
        f"no Ray cluster was joined at launcher.address={address} ({reason}); start one with "
        "`ray start --head`, or leave launcher.address out"
    )


@contextmanager
def _silenced() -> Iterator[None]:
    """Drop what is printed on stderr: a line a second of Ray's C++ part, while nothing answers."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


@contextmanager
def joined(address: str) -> Iterator[None]:
    """Join the Ray cluster at `address` (`local`: one of this machine alone, for this run).

    A cluster that this process has joined already is used as it is. Raises PrerequisiteError.
    """
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Of its C++ part, which prints forty lines for a lost node.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        import ray
    except ImportError:
        raise PrerequisiteError("launcher=ray needs Ray; pip install 'ovmer[ray]'") from None
    if ray.is_initialized():
        yield
        return
    _require_reachable(address)
    before = signal.getsignal(signal.SIGTERM)
    quiet = {"include_dashboard": False} if address == "local" else {}
    try:
        with _silenced():
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **quiet)
    except ConnectionError as error:
        reason = " ".join(f"{error} {error.__cause__ or ''}".split())
        raise PrerequisiteError(_no_cluster(address, reason)) from error
    except Exception as error:  # Ray has no narrower type for it
        ray.shutdown()
        raise PrerequisiteError(
            f"Ray did not start ({' '.join(str(error).split())}); is the machine overloaded? Run "
            "again, or leave launcher=ray out"
        ) from error
    signal.signal(signal.SIGTERM, before)  # Ray's own would end the run without its last words
    try:
        yield
    finally:
        ray.shutdown()


@cache
def has_gpus(address: str) -> bool:
    """Whether the Ray cluster at `address` has any GPU. Raises PrerequisiteError as `joined`."""
    with joined(address):
        import ray

        return bool(ray.cluster_resources().get("GPU", 0))
