"""A Hub small enough for a test: dataset repositories, served over HTTP the way the Hub's clients ask for it."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True)
class Commit:
    """The files of a repository at one commit, by path."""

    files: Mapping[str, bytes]

    @property
    def sha(self) -> str:
        """Forty hexadecimal digits, by content."""
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()


@dataclass
class Hub:
    """Dataset repositories by OWNER/NAME, each with its revisions (branches, tags); `main` is what nobody names.

    requests: what was asked, as `METHOD path`, in order.
    """

    datasets: Mapping[str, Mapping[str, Commit]]
    requests: list[str] = field(default_factory=list)
    endpoint: str = ""

    def commit(self, repo: str, revision: str) -> Commit | None:
        """The commit that a revision's name, or its own hash, stands for."""
        revisions = self.datasets[repo]
        by_sha = {commit.sha: commit for commit in revisions.values()}
        return revisions.get(revision) or by_sha.get(revision)


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The Hub on a free port of this machine, at `hub.endpoint`, until the block ends."""

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    served: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""

    def _answer(self, body: bytes) -> None:
        path = urlsplit(self.path).path
        self.served.requests.append(f"{self.command} {path}")
        for repo in self.served.datasets:
            api, files = f"/api/datasets/{repo}", f"/datasets/{repo}/resolve/"
            if path == api or path.startswith(f"{api}/"):
                return self._api(repo, path.removeprefix(api).strip("/"), body)
            if path.startswith(files):
                revision, _, name = path.removeprefix(files).partition("/")
                return self._file(repo, unquote(revision), unquote(name))
        return self._missing("RepoNotFound", "Repository not found")

    def _api(self, repo: str, path: str, body: bytes) -> None:
        what, _, rest = path.partition("/")
        revision, _, folder = rest.partition("/")
        commit = self.served.commit(repo, unquote(revision) or "main")
        if commit is None:
            self._missing("RevisionNotFound", f"Invalid rev id: {unquote(revision)}")
        elif what in ("", "revision"):
            siblings = [{"rfilename": name} for name in commit.files]
            self._json({"id": repo, "sha": commit.sha, "siblings": siblings, "tags": []})
        elif what == "paths-info":
            wanted = parse_qs(body.decode())["paths"]
            self._json([entry for entry in _entries(commit) if entry["path"] in wanted])
        elif what == "tree":
            recursive = "recursive=True" in urlsplit(self.path).query
            inside = [entry for entry in _entries(commit) if _is_in(entry, unquote(folder), recursive)]
            if inside:
                self._json(inside)
            else:
                self._missing("EntryNotFound", f"{folder} does not exist")
        else:
            self._missing("EntryNotFound", f"no {what}")

    def _file(self, repo: str, revision: str, name: str) -> None:
        commit = self.served.commit(repo, revision)
        if commit is None:
            self._missing("RevisionNotFound", f"Invalid rev id: {revision}")
        elif name not in commit.files:
            self._missing("EntryNotFound", "Entry not found", commit)
        else:
            content = commit.files[name]
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            self._send(200, content, {"ETag": etag, "X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"})

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _missing(self, code: str, message: str, commit: Commit | None = None) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self._send(404, b"{}", {**headers, "X-Repo-Commit": commit.sha} if commit else headers)

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entries(commit: Commit) -> list[dict[str, object]]:
    """The files and folders of a commit as the Hub's API lists them."""
    folders = sorted({name.rpartition("/")[0] for name in commit.files if "/" in name})
    listed: list[dict[str, object]] = [{"type": "directory", "path": name, "oid": "0" * 40} for name in folders]
    for name, content in commit.files.items():
        oid = hashlib.sha1(content).hexdigest()
        listed.append({"type": "file", "path": name, "oid": oid, "size": len(content)})
    return listed


def _is_in(entry: Mapping[str, object], folder: str, recursive: bool) -> bool:
    path = str(entry["path"])
    if folder and not path.startswith(f"{folder}/"):
        return False
    return recursive or "/" not in path.removeprefix(f"{folder}/" if folder else "")
