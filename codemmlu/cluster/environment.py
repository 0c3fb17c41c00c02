"""The environment variables that Ray reads when it is imported, and the cluster that is already there."""

import os
import secrets
import socket
from pathlib import Path


def configure() -> None:
    """Set Ray's environment variables; call this before anything imports ray.

    A cluster of our own listens on loopback only, as Ray has no passwords.
    """
    given, here = os.environ.get("RAY_ADDRESS"), started_here()
    if (here or "127.0.0.1:").startswith("127.0.0.1:") and (here or not given):
        # Where this is 0, as it is on those systems, Ray stays on loopback instead of looking for an outer address.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    if not (given or here):
        # Ray asks for a token even on loopback, and would leave one in the home directory that then locks every cluster
        # started by hand. One for this process and its children is enough.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # A Ray of our own runs its workers at the priority of everything else: by default they, and so an engine on the
    # CPU, give way to whatever runs on the machine, and every core waits for the one that was taken away.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Ray is joined by session.join and nowhere else: what still runs when a job ends must not start it anew.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"


def started_here() -> str | None:
    """Return the address of a cluster that `ray start` left on this machine, if it still answers."""
    try:
        address = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster").read_text().strip()
        reach(address)
    except (OSError, ValueError):  # no such file, or a cluster that is gone
        return None
    return address


def reach(address: str) -> None:
    """Connect to an address, HOST:PORT, and close the connection.

    Raises:
        OSError: Nothing listens there.
        ValueError: It is no such address.
    """
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=2).close()
