"""Which cluster a job joins: only one that this user or root named, and that answers as Ray does."""

import atexit
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import ray

from codemmlu.cluster import session
from codemmlu.cluster.environment import given_address, is_ray, started_here
from codemmlu.errors import UserError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which `ray start` leaves an address."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray" / "ray_current_cluster"


@pytest.fixture
def listener() -> Iterator[str]:
    """The address of something that listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


class Head(grpc.GenericRpcHandler):  # type: ignore[misc,unused-ignore]
    """A head that answers as a given kind of service."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def service(self, details: Any) -> Any:
        if self._kind == "other" or not details.method.endswith("CheckAlive"):
            return None

        def answer(_: bytes, context: Any) -> bytes:
            if self._kind != "open":
                words = "InvalidAuthToken: missing" if self._kind == "token" else "log in"
                context.abort(grpc.StatusCode.UNAUTHENTICATED, words)
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def head(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a head."""
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Head(request.param),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@pytest.mark.parametrize(
    ("head", "joined"), [("open", True), ("token", True), ("other", False), ("login", False)], indirect=["head"]
)
def test_only_ray_is_joined(file: Path, head: str, joined: bool) -> None:
    file.write_text(f"{head}\n")
    assert started_here() == (head if joined else None)


def test_something_that_never_answers_is_not_waited_for(file: Path, listener: str) -> None:
    file.write_text(listener)
    began = time.monotonic()
    assert started_here() is None
    assert time.monotonic() - began < 30
    assert not is_ray("127.0.0.1:1")


@pytest.mark.parametrize("text", ["", "no address", "127.0.0.1", "127.0.0.1:x", "a" * 10_000, "\0:1", "ü:1"])
def test_what_is_no_address_is_no_cluster(file: Path, text: str) -> None:
    file.write_text(text)
    assert started_here() is None


@pytest.mark.parametrize("head", ["open"], indirect=True)
@pytest.mark.parametrize("how", ["writable", "link", "fifo", "folder", "owner"])
def test_a_file_that_others_may_have_written_names_no_cluster(file: Path, head: str, how: str) -> None:
    elsewhere = file.with_name("elsewhere")
    elsewhere.write_text(head)
    if how == "link":
        file.symlink_to(elsewhere)
    elif how == "fifo":
        os.mkfifo(file)
    elif how == "folder":
        file.mkdir()
    else:
        file.write_text(head)
        assert started_here() == head
    if how == "writable":
        file.chmod(0o666)
    if how == "owner":
        if os.getuid():
            pytest.skip("only root gives files away")
        os.chown(file, 12345, 12345)
        if os.getuid() == 0 and file.stat().st_uid == 0:
            pytest.skip("this file system has no owners")
    assert started_here() is None


@pytest.mark.parametrize("head", ["open"], indirect=True)
def test_what_was_probed_is_what_is_joined(file: Path, head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(head)
    joined: list[str] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: joined.append(options["address"]))
    monkeypatch.setattr(ray, "nodes", lambda: [])
    monkeypatch.setattr(atexit, "register", lambda _: None)
    JOIN()
    assert joined == [head]
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    JOIN()
    assert joined == [head, head]
    file.unlink()
    with pytest.raises(UserError, match="no Ray cluster answers at auto"):
        JOIN()


JOIN = session.join  # Before the tests' own guard replaces it.


def test_an_address_of_the_user_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, means in (("auto", None), ("", None), ("ray://h:1", "ray://h:1")):
        monkeypatch.setenv("RAY_ADDRESS", given)
        assert given_address() == means
