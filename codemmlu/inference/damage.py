"""Damaged files of an earlier attempt: they are set aside, and what they held is inferred again."""

import json
import math
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from codemmlu.errors import Progress, first_line
from codemmlu.inference.answer_store import file_name
from codemmlu.inference.calibration import PILOT_FILE
from codemmlu.run_dir import DamagedError, RunDir
from codemmlu.schema import ANSWER

_AT_ONCE = 16  # files read in parallel, as in answer_store.py
_KEY = re.compile(r"[0-9a-f]{32}")
_NAMED_BY_KEYS = re.compile(r".*/([0-9a-f]{24})\.parquet")
_CALIBRATION = re.compile(r"fitted/[0-9a-f]{32}\.json")
# Columns that every answer fills.
_FILLED = ("key", "task_id", "split", "ask", "status", "readings", "turns", "retrieved", "started", "seconds")


def set_aside(run: RunDir, pools: Iterable[str], progress: Progress) -> None:
    """Rename all files that are not as the run wrote them: answers, the pilot, letter priors and thresholds.

    Args:
        run: The run directory.
        pools: The pools whose answers are read.
        progress: Where to report.
    """
    answers = [name for pool in pools for name in run.files(f"answers/{pool}")]
    with ThreadPoolExecutor(_AT_ONCE) as readers:
        faults = dict(zip(answers, readers.map(partial(_fault_of_answers, run), answers), strict=True))
    fitted = [name for name in run.files("fitted", ".json") if _CALIBRATION.fullmatch(name)]
    faults |= {name: _fault_of_json(run, name, _check_calibration) for name in fitted}
    if run.exists(PILOT_FILE):
        faults[PILOT_FILE] = _fault_of_json(run, PILOT_FILE, _check_names)
    for name, why in faults.items():
        if why:
            new = run.set_aside(name).rpartition("/")[2]
            then = "its questions are asked again" if name in answers else "it is estimated again"
            progress.say(f"{run.shown}/{name} is damaged ({why}): it is kept as {new}, and {then}")


def _fault_of_answers(run: RunDir, name: str) -> str:
    """Return what is wrong with a file of answers, or an empty text."""
    try:
        table = run.read_table(name)
    except DamagedError as error:
        return error.why
    keys = [str(key) for key in table["key"].to_pylist()] if "key" in table.column_names else []
    named = _NAMED_BY_KEYS.fullmatch(name)
    faults = {
        "it has other columns": not table.schema.equals(ANSWER),
        "a key is none": not all(map(_KEY.fullmatch, keys)),
        "it has other keys than its name says": named is not None and named[1] != file_name(keys),
        "values are missing": any(table[column].null_count for column in _FILLED if column in table.column_names),
    }
    return next((why for why, is_so in faults.items() if is_so), "")


def _fault_of_json(run: RunDir, name: str, check: Callable[[Any], None]) -> str:
    """Return what is wrong with a JSON file, or an empty text; `check` raises a ValueError or a TypeError."""
    try:
        check(json.loads(run.read(name)))
    except (ValueError, TypeError, RecursionError) as error:
        return first_line(error)
    return ""


def _check_names(value: Any) -> None:
    """Refuse a pilot that is no list of names."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("it is no list of names")


def _check_calibration(value: Any) -> None:
    """Refuse what is neither a threshold nor a letter prior: by the number of choices, one number for each."""
    if not isinstance(value, dict):
        _check_number(value)
        return
    for size, logs in value.items():
        if not isinstance(logs, list) or len(logs) != int(size):
            raise ValueError(f"it has no {size} numbers for {size} choices")
        for number in logs:
            _check_number(number)


def _check_number(value: Any) -> None:
    """Refuse what is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number"[:80])
