"""The lock of a local run directory: one job writes there at a time."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from codemmlu.errors import UserError


@contextmanager
def file_lock(path: str, shown: str) -> Iterator[None]:
    """Hold a lock file while a job writes; the kernel releases it however the job ends.

    Args:
        path: The lock file.
        shown: The directory, for error messages.

    Yields:
        Nothing.

    Raises:
        UserError: Another live job holds the lock, or the directory cannot be locked.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f"out: {shown}/.lock cannot be opened: {error.strerror}; remove it") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise UserError(f"out: {shown} cannot be locked: {error.strerror}") from None
        raise UserError(
            f"out: another run is writing to {shown}; wait for it, stop it, or give another `out`"
        ) from None
    try:
        yield
    finally:
        os.close(handle)
