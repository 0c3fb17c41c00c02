"""What may be wrong with the files of a run: a damaged file, and a full disk."""

import os
import shutil

from codemmlu.errors import UserError


class DamagedError(UserError):
    """The error of a file that a run wrote and that was changed or cut off since; `why` says how it shows."""

    def __init__(self, path: str, why: str, remedy: str = "delete it, or give another `out`") -> None:
        """Name the file, what is wrong with it, and what would help."""
        super().__init__(f"{path} is damaged ({why}); {remedy}")
        self.args = (path, why, remedy)  # what the error is made of anew in another process
        self.why = why


def disk_is_full(shown: str, path: str, needed: int = 0) -> str:
    """Return the error message for a full disk.

    Args:
        shown: What could not be written, as the user reads it.
        path: A path on the disk.
        needed: The bytes that are needed; 0: not known.
    """
    while not os.path.exists(path) and path not in ("", "/"):
        path = os.path.dirname(path)
    free = shutil.disk_usage(path or ".").free
    more = f", and {_size(max(1, needed - free))} more are needed" if needed > free else ""
    return (
        f"out: {shown} cannot be written: the disk is full ({_size(free)} free{more}); make room, or give another `out`"
    )


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
