"""The files that this process opens, seen by Python's own audit: whoever opens them, and however."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_watched: list[list[str]] = []


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open":
        for paths in _watched:
            paths.append(str(arguments[0]))


sys.addaudithook(_audit)  # A hook stays for the life of the process; without a list it does nothing.


@contextmanager
def watch_opens() -> Iterator[list[str]]:
    """Collect the paths that are opened in the body.

    Yields:
        The paths, in the order in which they are opened.
    """
    paths: list[str] = []
    _watched.append(paths)
    try:
        yield paths
    finally:
        _watched.remove(paths)
