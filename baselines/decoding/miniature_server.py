"""A server in this process that echoes its input: dry runs use it instead of a real one."""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_KINDS = {"image_url": "image", "video_url": "video", "input_audio": "sound", "text": "text"}


class MiniatureServer:
    """OpenAI-compatible as far as chats go; listens from construction on, on a free port."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.daemon = True
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:  # the name is the library's
        self._send({"data": []})  # has every model

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        parts = request["messages"][-1]["content"]
        kinds = Counter(_KINDS[part["type"]] for part in parts)
        words = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        message = {"role": "assistant", "content": f"A dry run; the server was sent {words}."}
        self._send({"choices": [{"message": message, "finish_reason": "stop"}]})

    def _send(self, answer: Any) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
