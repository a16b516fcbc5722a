"""The real `vllm serve` on loopback, for the tests that ask it."""

import os
import re
import signal
import socket
from functools import partial
from pathlib import Path
from runpy import run_module

from tests.processes import Started

START_SECONDS = 600
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else to one core, which others may be busy on
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in as few processes as it can, each imports for 10 s
    "VLLM_NO_USAGE_STATS": "1",
}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class VllmServer:
    """It starts at once; `wait` until it answers. (Its command asks for the version of a package
    called vllm, which the CPU build is not called; the module is the same server.)"""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._process = Started(
            [
                *("--model", str(folder), "--host", "127.0.0.1", "--port", str(self.port)),
                *("--dtype", "float32", "--enforce-eager", *options),
            ],
            folder.parent,
            environment=ENVIRONMENT,
            before=os.setsid,
            program=partial(run_module, "vllm.entrypoints.openai.api_server", run_name="__main__"),
        )

    def wait(self) -> None:
        self._process.wait_for(
            lambda: "Application startup complete" in self._process.said, START_SECONDS
        )

    @property
    def answered(self) -> int:
        """How many questions in a chat it has answered."""
        answer = r'"POST /v1/chat/completions HTTP/1\.1" 200'
        return len(re.findall(answer, self._process.said))

    def kill(self) -> None:
        """It and its workers die at once."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
