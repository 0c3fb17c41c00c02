"""Small files that say much: each is read in a process of its own, within limits of time and memory."""

import bz2
import gzip
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.hostile import test_inputs, test_model_files, test_recipes, test_workbooks
from tests.support.hostile import NOISE, ROW, dry_apart

HEADER = b"task_id,question,choices,answer\n"
LINES = (b"x" * 1000 + b"\n") * 2**13


def parquet(table: pa.Table) -> bytes:
    """Return a table as a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def long_list(length: int) -> pa.Table:
    """Return a row with so many choices, which all are none."""
    offsets, values = pa.array([0, length], pa.int32()), pa.nulls(length, pa.string())
    return pa.table({"question": ["q"], "choices": pa.ListArray.from_arrays(offsets, values)})


# What each is called, the ending of its file, its content, and what is said of it.
FILES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "blank lines in gzip": ("csv.gz", lambda: gzip.compress(HEADER + b"\n" * 2**24), "blank lines in a row"),
    "lines in bzip2": ("jsonl.bz2", lambda: bz2.compress(LINES), "which no text does"),
    "bzip2 in gzip": ("csv.gz", lambda: gzip.compress(bz2.compress(HEADER + LINES)), "which no text does"),
    "blank lines": ("csv", lambda: HEADER + b"\n" * 2**20, "more than 100,000 blank lines in a row"),
    "rows of nothing": ("jsonl", lambda: ROW + b"3\n" * 2**20, "20,001 rows of "),
    "rows of nothing in gzip": ("jsonl.gz", lambda: gzip.compress(ROW + b"3\n" * 2**22), "20,001 rows of "),
    "a list of millions": ("parquet", lambda: parquet(long_list(30_000_000)), "30,000,001 values in"),
    "names of one column": ("csv", lambda: names(3000) + b"\nx\n", "can be asked"),
    "names of one field": (
        "jsonl",
        lambda: json.dumps(dict.fromkeys(names(3000).decode().split(","))).encode(),
        "columns",
    ),
    "many fields": (
        "jsonl",
        lambda: json.dumps({str(n): 1 for n in range(300_000)}).encode(),
        "more than 1,024 columns",
    ),
    "many columns": ("csv", lambda: b"," * 2**20 + b"\nx\n", "can be asked"),
    "many columns of a table": ("parquet", lambda: parquet(pa.table({f"c{n}": [1] for n in range(3000)})), "columns"),
    "half characters": ("jsonl", lambda: b'{"question": "' + b"\\ud800" * 10**6 + b'"}\n', "can be asked"),
    "quotes": ("csv", lambda: HEADER + b'a,"b ""c"" ' * 300_000, "broken CSV quoting"),
    "a long line": ("csv", lambda: b"a" * (33 * 2**20), "a line of more than 32 MiB"),
    "a deep list": ("jsonl", lambda: (b'{"question":' + b"[" * 900 + b"]" * 900 + b"}\n") * 300, "can be asked"),
    "wrong bytes": ("csv", lambda: HEADER + b"\xff" * 2**23, "is not utf-8"),
}


def names(count: int) -> bytes:
    """Return a line of names that differ in blanks alone."""
    return b",".join(b"a" + b" " * number + b"b" for number in range(1, count))


def fields(keys: Iterable[str]) -> bytes:
    """Return a JSON object of many fields."""
    return json.dumps(dict.fromkeys(keys)).encode()


@pytest.mark.parametrize("name", FILES)
def test_a_small_file_that_says_much(tmp_path: Path, name: str) -> None:
    ending, content, says = FILES[name]
    (tmp_path / f"q.{ending}").write_bytes(content())
    done = dry_apart(tmp_path, f"questions.source={tmp_path}/q.{ending}")
    assert done.code == 2
    assert says in done.err


def test_there_are_many() -> None:
    of_noise = len(NOISE) * (7 + 1 + 4 + 3 + 1 + 3 + 1 + 1)
    tables = len(test_inputs.ROWS) + len(test_inputs.PARQUET) + len(FILES)
    books = len(test_workbooks.READ) + len(test_workbooks.REFUSED) + len(test_workbooks.ARCHIVES)
    texts = len(test_recipes.RECIPES) + len(test_recipes.OVERRIDES) + 2 * len(test_model_files.WEIGHTS)
    assert of_noise + tables + books + texts >= 700
