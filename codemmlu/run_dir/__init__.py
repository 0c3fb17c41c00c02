"""The run directory: its files, what of them belongs to a run, and who may write there."""

from codemmlu.run_dir.directory import ATTEMPT, RunDir, check_persistent_path
from codemmlu.run_dir.faults import DamagedError, disk_is_full
from codemmlu.run_dir.names import is_written, writes_below

__all__ = ["ATTEMPT", "DamagedError", "RunDir", "check_persistent_path", "disk_is_full", "is_written", "writes_below"]
