"""Simulates OpenAI's `/models`, by which the controller checks credentials: it accepts some keys."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class OpenAI:
    """A server on loopback; tests may add valid keys."""

    url: str
    keys: set[str] = field(default_factory=lambda: {"key"})


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore the error: tests kill clients during a request."""


@contextmanager
def serving() -> Iterator[OpenAI]:
    """Serve in a thread until the block ends."""
    known = OpenAI("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            key = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if key in known.keys:
                self._answer(200, {"id": self.path.rsplit("/", 1)[1], "object": "model"})
            else:
                # The words and shape of the API itself; it repeats the key, masked.
                self._answer(401, {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}})

        def _answer(self, status: int, document: object) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    server = _Server(("127.0.0.1", 0), Handler)
    known.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
