"""A Hub of models small enough for a test: it answers what its clients ask about a model before they fetch it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.http_server import Request, Response, serve


@dataclass
class ModelHub:
    """What stands under each path of /api/models/: a model's information, or a status with the Hub's error code."""

    models: Mapping[str, dict[str, Any] | tuple[int, str]]
    endpoint: str = ""

    def answer(self, request: Request) -> Response:
        """Answer one request. No model has a file: one is asked for by HEAD."""
        if request.method == "HEAD":
            return Response(404, headers={"X-Error-Code": "EntryNotFound"})
        entry = self.models.get(request.path.removeprefix("/api/models/"), (404, "RepoNotFound"))
        if isinstance(entry, dict):
            return Response(content=json.dumps(entry).encode())
        status, code = entry
        return Response(status, b"{}", {"X-Error-Code": code} if code else {})


@contextmanager
def serving(hub: ModelHub) -> Iterator[ModelHub]:
    """Serve the Hub at `hub.endpoint` until the block ends."""
    with serve(hub.answer) as hub.endpoint:
        yield hub
