"""A Hub of models small enough for a test: it answers what its clients ask about a model before they fetch it."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass
class ModelHub:
    """What is said under each path of /api/models/: a model's information, or a status with the Hub's error code."""

    models: Mapping[str, dict[str, Any] | tuple[int, str]]
    endpoint: str = ""


@contextmanager
def serving(hub: ModelHub) -> Iterator[ModelHub]:
    """The Hub on a free port of this machine until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path.removeprefix("/api/models/")
            said = hub.models.get(path, (404, "RepoNotFound"))
            status, code = (200, "") if isinstance(said, dict) else said
            content = json.dumps(said).encode() if isinstance(said, dict) else b"{}"
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_HEAD(self) -> None:
            """A file is asked for so: there is none. What is said of no method at all a client would ask again."""
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
