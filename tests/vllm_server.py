"""The real `vllm serve` on loopback, for the tests that ask it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

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

    def __init__(self, folder: Path, log: Path, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
                    *("--model", str(folder), "--host", "127.0.0.1", "--port", str(self.port)),
                    *("--dtype", "float32", "--enforce-eager", *options),
                ],
                env=os.environ | ENVIRONMENT,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while "Application startup complete" not in self.log:
            assert self._process.poll() is None, self.log[-2000:]
            assert time.monotonic() < deadline, self.log[-2000:]
            time.sleep(0.2)

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def answered(self) -> int:
        """How many questions in a chat it has answered."""
        return len(re.findall(r'"POST /v1/chat/completions HTTP/1\.1" 200', self.log))

    def kill(self) -> None:
        """It and its workers die at once."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
