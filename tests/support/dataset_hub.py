"""A Hub small enough for a test: dataset repositories, served over HTTP the way the Hub's clients ask for it."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

from tests.support.http_server import Request, Response, serve


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
    """Dataset repositories by OWNER/NAME, each with its revisions (branches, tags); `main` is the default.

    requests: what was asked, as `METHOD path`, in order
    """

    datasets: Mapping[str, Mapping[str, Commit]]
    requests: list[str] = field(default_factory=list)
    endpoint: str = ""

    def commit(self, repo: str, revision: str) -> Commit | None:
        """Return the commit that a revision's name, or its own hash, stands for."""
        revisions = self.datasets[repo]
        by_sha = {commit.sha: commit for commit in revisions.values()}
        return revisions.get(revision) or by_sha.get(revision)

    def answer(self, request: Request) -> Response:
        """Answer one request."""
        self.requests.append(f"{request.method} {request.path}")
        for repo in self.datasets:
            api, files = f"/api/datasets/{repo}", f"/datasets/{repo}/resolve/"
            if request.path == api or request.path.startswith(f"{api}/"):
                return self._api(repo, request.path.removeprefix(api).strip("/"), request)
            if request.path.startswith(files):
                revision, _, name = request.path.removeprefix(files).partition("/")
                return self._file(repo, unquote(revision), unquote(name))
        return _missing("RepoNotFound", "Repository not found")

    def _api(self, repo: str, path: str, request: Request) -> Response:
        what, _, rest = path.partition("/")
        revision, _, folder = rest.partition("/")
        commit = self.commit(repo, unquote(revision) or "main")
        if commit is None:
            return _missing("RevisionNotFound", f"Invalid rev id: {unquote(revision)}")
        if what in ("", "revision"):
            siblings = [{"rfilename": name} for name in commit.files]
            return _json({"id": repo, "sha": commit.sha, "siblings": siblings, "tags": []})
        if what == "paths-info":
            wanted = parse_qs(request.body.decode())["paths"]
            return _json([entry for entry in _entries(commit) if entry["path"] in wanted])
        if what == "tree":
            recursive = "recursive=True" in request.query
            inside = [entry for entry in _entries(commit) if _is_in(entry, unquote(folder), recursive)]
            return _json(inside) if inside else _missing("EntryNotFound", f"{folder} does not exist")
        return _missing("EntryNotFound", f"no {what}")

    def _file(self, repo: str, revision: str, name: str) -> Response:
        commit = self.commit(repo, revision)
        if commit is None:
            return _missing("RevisionNotFound", f"Invalid rev id: {revision}")
        if name not in commit.files:
            return _missing("EntryNotFound", "Entry not found", commit)
        content = commit.files[name]
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        return Response(content=content, headers={"ETag": etag, "X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"})


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve the Hub at `hub.endpoint` until the block ends."""
    with serve(hub.answer) as hub.endpoint:
        yield hub


def _json(value: object) -> Response:
    return Response(content=json.dumps(value).encode(), headers={"Content-Type": "application/json"})


def _missing(code: str, message: str, commit: Commit | None = None) -> Response:
    headers = {"X-Error-Code": code, "X-Error-Message": message}
    return Response(404, b"{}", {**headers, "X-Repo-Commit": commit.sha} if commit else headers)


def _entries(commit: Commit) -> list[dict[str, object]]:
    """List the files and folders of a commit as the Hub's API does."""
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
