"""What a local run directory needs: a lock, as one job writes there at a time, and durable renames."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from codemmlu.errors import UserError


@contextmanager
def file_lock(path: str, shown: str, key: str) -> Iterator[None]:
    """Hold a lock file while a job writes; the kernel releases it however the job ends.

    Args:
        path: The lock file.
        shown: The directory, for error messages.
        key: The recipe key that names the directory, for error messages.

    Yields:
        Nothing.

    Raises:
        UserError: Another live job holds the lock, or the directory cannot be locked.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f"{shown}/.lock cannot be opened: {error.strerror}; remove it", key=key) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise UserError(f"{shown} cannot be locked: {error.strerror}", key=key) from None
        raise UserError(
            f"another run is writing to {shown}; wait for it, stop it, or give another `{key}`", key=key
        ) from None
    try:
        yield
    finally:
        os.close(handle)


def sync_folder(folder: str) -> None:
    """Make renames in a folder durable, where the file system has a way to."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
