"""Whether processes live."""

import time
from pathlib import Path


def lives(pid: int) -> bool:
    """Whether a process is there and not merely waiting for its parent to notice its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ends(pid: int, seconds: float = 60) -> bool:
    """Waits for a process to end, and says whether it did."""
    last = time.monotonic() + seconds
    while lives(pid):
        if time.monotonic() > last:
            return False
        time.sleep(0.02)
    return True
