"""The environment variables that Ray reads on import, and the cluster that already runs on this machine."""

import os
import secrets
import socket
import stat
from pathlib import Path

# What an HTTP/2 client says first, with empty settings: a gRPC server answers with settings at once.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_FRAME, _SETTINGS = 9, 4  # bytes of a frame's header, and the type of a frame with settings
_SECONDS = 5  # a busy head may take some to answer
_LONGEST_ADDRESS = 300  # characters


def configure() -> None:
    """Set Ray's environment variables; call this before anything imports ray.

    A cluster that this process starts listens on loopback only, as Ray has no passwords.
    """
    given, running = given_address(), started_here()
    if (running or "127.0.0.1:").startswith("127.0.0.1:") and (running or not given):
        # With 0, the value on Windows and macOS, Ray stays on loopback instead of looking for an outer address.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    if not (given or running):
        # Ray requires a token even on loopback, and would leave a token in the home directory that then locks every
        # cluster started by hand. A token for this process and its children is enough.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # Workers of a Ray that this process starts run at normal priority. By default the workers, and so an engine on the
    # CPU, give way to any other process on the machine, and every core waits for the core that was taken away.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Only session.join joins Ray: code that still runs when a job ends must not start Ray again.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"


def wanted_address() -> str:
    """Return the content of RAY_ADDRESS, without the blanks and the newline that come with a copy of an address."""
    return os.environ.get("RAY_ADDRESS", "").strip()


def given_address() -> str | None:
    """Return the address in RAY_ADDRESS; None where it names none: see `started_here` for `auto`, and `local`."""
    address = wanted_address()
    return None if address in ("", "auto", "local") else address


def started_here() -> str | None:
    """Return the address of a cluster that `ray start` left on this machine, if it still answers.

    None where RAY_ADDRESS is `local`, which asks for a Ray of one's own.

    The file of the address has to be this user's or root's: the driver unpickles what a cluster sends, so whoever names
    the cluster runs code here.
    """
    if wanted_address() == "local":
        return None
    path = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            is_trusted = status.st_uid in (os.getuid(), 0) and not status.st_mode & stat.S_IWOTH
            if not (is_trusted and stat.S_ISREG(status.st_mode)):
                return None
            address = file.read(_LONGEST_ADDRESS).strip()
        reach(address)
    except (OSError, ValueError):  # There is no such file, or the cluster is gone.
        return None
    return address if is_ray(address) else None


def is_ray(address: str, may_be_busy: bool = False) -> bool:
    """Return whether the head of a Ray cluster answers at an address, within seconds.

    Args:
        address: The address, HOST:PORT.
        may_be_busy: Whether a head is assumed where there is no answer in time.

    Returns:
        Whether it is a head; another server of gRPC says that it does not know the question.
    """
    if _is_encrypted():
        return True  # Only a client with the cluster's certificates could ask.
    # Ray must not be imported before `configure`, and Ray's client would wait for minutes.
    import grpc

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        check = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")
        try:
            check(b"", timeout=_SECONDS)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                return may_be_busy
            # A cluster with tokens says so; the token is sent only then.
            return error.code() == grpc.StatusCode.UNAUTHENTICATED and "AuthToken" in str(error.details())
    return True


def _is_encrypted() -> bool:
    return os.environ.get("RAY_USE_TLS", "0") != "0"


def reach(address: str) -> None:
    """Connect to an address, HOST:PORT or [HOST]:PORT, ask whether it speaks gRPC, and close the connection.

    An OSError means that nothing listens at the address; a ValueError means that the address is not HOST:PORT.

    Raises:
        ConnectionError: Something else than Ray listens there: it may have the port of a head that is gone.
    """
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS) as connection:
        if _is_encrypted():
            return  # The greeting would have to be encrypted.
        connection.settimeout(_SECONDS)
        try:
            connection.sendall(_GREETING)
            reply = b""
            while len(reply) < _FRAME and (chunk := connection.recv(_FRAME - len(reply))):
                reply += chunk
        except TimeoutError:
            reply = b""
    if len(reply) < _FRAME or reply[3] != _SETTINGS:
        raise ConnectionError("something else than Ray answers there")
