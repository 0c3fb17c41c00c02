"""The run directory: its files, what of them belongs to a run, and who may write there."""

from codemmlu.run_dir.directory import ISSUE, DamagedError, RunDir, check_persistent_path
from codemmlu.run_dir.names import is_written, writes_below

__all__ = ["ISSUE", "DamagedError", "RunDir", "check_persistent_path", "is_written", "writes_below"]
