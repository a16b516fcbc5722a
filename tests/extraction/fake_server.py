"""An OpenAI-compatible server that misbehaves by a script, on loopback, in a thread."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests import loopback

MODEL = "mini"


@dataclass
class Misbehaviour:
    """What the server does with a request instead of answering it."""

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    hang_up: bool = False
    gone: bool = False
    """Hang up now, and on whatever comes afterwards."""
    drip: bool = False
    """Send a byte now and then, for ever."""


Script = Callable[[int, dict[str, Any]], str | Misbehaviour]
"""(how many requests came before, the request's JSON) -> the reply's words, or something else."""


@dataclass
class FakeServer:
    """What a test sees of it."""

    url: str
    requests: list[dict[str, Any]]
    keys: list[str]
    starts: list[float]
    is_gone: bool = False


def error(status: int, message: str, **headers: str) -> Misbehaviour:
    return Misbehaviour(status, json.dumps({"error": {"message": message}}), dict(headers))


def completion(words: str | None, finish_reason: str = "stop") -> Misbehaviour:
    message = {"role": "assistant", "content": words}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    return Misbehaviour(body=json.dumps({"choices": [choice], "usage": usage}))


@contextmanager
def serving(
    script: Script, models: Misbehaviour | None = None, port: int = 0
) -> Iterator[FakeServer]:
    """A server, without `port` on a free one; `models` is what its list of models answers."""
    listing = models or Misbehaviour(body=json.dumps({"data": [{"id": MODEL}, {"id": "other"}]}))
    seen = FakeServer("", [], [], [])
    stop, lock = threading.Event(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            seen.keys.append(self.headers["Authorization"])
            self._send(listing)

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                before = len(seen.requests)
                seen.requests.append(request)
                seen.starts.append(time.monotonic())
            said = script(before, request)
            self._send(completion(said) if isinstance(said, str) else said)

        def _send(self, answer: Misbehaviour) -> None:
            seen.is_gone |= answer.gone
            if answer.hang_up or seen.is_gone:
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(answer.status)
            headers = {"Content-Type": "application/json"} | answer.headers
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            body = answer.body.encode()
            self.send_header("Content-Length", str(10**6 if answer.drip else len(body)))
            self.end_headers()
            self.wfile.write(body)
            while answer.drip and not stop.wait(0.05):
                self.wfile.write(b" ")
                self.wfile.flush()

    with loopback.serving(Handler, port) as address:
        seen.url = f"{address}/v1"
        try:
            yield seen
        finally:
            stop.set()
