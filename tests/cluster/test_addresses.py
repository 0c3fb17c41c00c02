"""Addresses where no Ray answers are said within seconds: a port that somebody else has now, a head that is gone."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import ray

from codemmlu.cluster import environment, session
from codemmlu.errors import UserError


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(session, "_PATIENCE", 0)
    monkeypatch.setattr(environment, "_SECONDS", 0.3)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))


@contextmanager
def serving(reply: bytes | None, host: str = "127.0.0.1") -> Iterator[str]:
    """Listen at an address and answer each client with some bytes; None: with nothing, and keep the connection."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as server:
        server.bind((host, 0))
        server.listen()
        clients: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                clients.append(client)
                if reply is not None:
                    client.recv(100)
                    client.sendall(reply)
                    client.close()

        threading.Thread(target=serve, daemon=True).start()
        shown = f"[{host}]" if ":" in host else host
        yield f"{shown}:{server.getsockname()[1]}"
        for client in clients:
            client.close()
        server.shutdown(socket.SHUT_RDWR)


OTHERS: dict[str, bytes | None] = {
    "redis": b"-ERR unknown command 'PRI'\r\n",
    "a web server": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "closes at once": b"",
    "says nothing": None,
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_port_that_somebody_else_has_now_is_no_cluster(other: str, tmp_path: Path) -> None:
    with serving(OTHERS[other]) as address:
        with pytest.raises(OSError, match=r"something else than Ray answers there|reset"):
            environment.reach(address)
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(address)
        assert environment.started_here() is None, "a Ray of our own is started"


def test_a_server_of_grpc_is_taken() -> None:
    with serving(b"\0\0\6\4\0\0\0\0\0\0\3\0\0\0\x64") as address:
        environment.reach(address)


def joining(address: str | None, monkeypatch: pytest.MonkeyPatch, init: Callable[..., None] | None = None) -> str:
    """Return the error that the user is shown."""

    def never(**_: object) -> None:
        raise AssertionError("Ray was asked, which waits for minutes")

    monkeypatch.setattr(ray, "init", init or never)
    with pytest.raises(UserError) as error:
        session._join(str(address), {})
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("other", ["redis", "says nothing"])
def test_an_address_of_somebody_else_is_said(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(OTHERS[other]) as address:
        text = joining(address, monkeypatch)
        assert text.startswith(f"RAY_ADDRESS: no Ray cluster answers at {address} (something else than Ray answers")


def test_an_address_of_version_6_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no Ray cluster answers at [::1]:1 (" in joining("[::1]:1", monkeypatch)


def test_another_server_of_grpc_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """It speaks as Ray does, and does not know what Ray's head is asked: Ray would ask again and again."""
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    assert "(something else than Ray answers there)" in joining(f"127.0.0.1:{port}", monkeypatch)
    server.stop(None).wait()


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", ":6379", "127.0.0.1:-1", "127.0.0.1:0", "127.0.0.1:99999", "head:x", "::1:6379", "http://head:8265"],
)
def test_what_is_no_address_is_said_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert joining(address, monkeypatch).startswith(f"RAY_ADDRESS: {address} is no address of a Ray head: that is HOST")


def test_blanks_around_an_address_are_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", " 10.0.0.1:6379\n")
    assert environment.given_address() == "10.0.0.1:6379"
    monkeypatch.setenv("RAY_ADDRESS", "auto ")
    assert environment.given_address() is None


def test_local_is_a_ray_of_our_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setattr(environment, "is_ray", lambda _: True)
    (tmp_path / "ray").mkdir()
    with serving(b"\0\0\6\4\0\0\0\0\0\0\3\0\0\0\x64") as address:
        (tmp_path / "ray" / "ray_current_cluster").write_text(address)
        assert environment.given_address() is None
        assert environment.started_here() is None
        monkeypatch.delenv("RAY_ADDRESS")
        assert environment.started_here() == address


def test_a_clients_address_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "RAY_ADDRESS: ray://head:10001 is for Ray's client" in joining("ray://head:10001", monkeypatch)


def test_a_cluster_of_another_version_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    def mismatch(**_: object) -> None:
        raise RuntimeError(
            "Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n    Python: 3.10.1\n"
            "This process on 10.0.0.1:5 was started with:\n    Ray: 2.60.0\n    Python: 3.11.2\n"
        )

    assert joining("auto", monkeypatch, mismatch) == (
        "RAY_ADDRESS: the cluster at auto runs Ray 2.9.0 with Python 3.10.1, and this is Ray 2.60.0 with Python "
        "3.11.2; install the same versions here"
    )


def test_a_folder_that_is_too_long_for_sockets_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"RAY_TMPDIR: /tmp/a+ has 95 characters, and Ray's sockets leave room for 39"):
        session.refuse_long_folder("/tmp/" + 90 * "a")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"RAY_TMPDIR: file/x cannot be used for Ray's files: Not a directory; give"):
        session.refuse_long_folder("file/x")
    session.refuse_long_folder("/tmp")
