"""The backends by name. A new one is a class with the methods of `Sandbox` and its entry in BACKENDS."""

from collections.abc import Callable
from functools import cache

from codemmlu.sandbox.bubblewrap import Bubblewrap
from codemmlu.sandbox.protocol import Sandbox, SandboxMissing
from codemmlu.sandbox.seccomp_python import SeccompPython

# In the order in which `auto` tries them: the one with the most languages first.
BACKENDS: dict[str, Callable[[], Sandbox]] = {"bubblewrap": Bubblewrap, "seccomp": SeccompPython}


@cache
def open_sandbox(name: str = "auto") -> Sandbox:
    """Return a sandbox that has proved to work in this process.

    Args:
        name: A name in BACKENDS, or `auto` for the first that works.

    Returns:
        The sandbox.

    Raises:
        SandboxMissing: None works; the text names each backend and what to install.
    """
    reasons = []
    for backend in BACKENDS if name == "auto" else [name]:
        try:
            return BACKENDS[backend]()
        except SandboxMissing as missing:
            reasons.append(str(missing))
    raise SandboxMissing("; ".join(reasons))
