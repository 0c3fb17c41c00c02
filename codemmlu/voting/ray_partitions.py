"""The Ray Data plan of the reduce: a groupby over the stored Parquet files.

It is for questions that one process does not hold.

[addresses of files] -> read, cut by partition -> groupby partition -> whole partitions -> task | task | ...
Tables travel as Arrow's own bytes: the groupby moves few long rows, whatever their schema.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
import ray.exceptions
from ray.data.extensions import ArrowPythonObjectArray

from codemmlu.cluster import locks, session, tasks
from codemmlu.run_dir import RunDir
from codemmlu.voting.aggregation import Partition
from codemmlu.voting.reduction import PartialResult, T, part_of

# The number of files that one task reads: an engine writes many small files.
_FILES = 64
_BYTES: Any = pa.large_binary()  # a value may hold more than 2 GiB
_CUT: Any = pa.schema({"part": pa.int64(), "kind": pa.string(), "rows": _BYTES})
_QUESTIONS = "questions"


class RayPartitions:
    """All questions of a run with their answers, cut into partitions that Ray keeps in its object store."""

    def __init__(self, run: RunDir, pools: Sequence[str], count: int) -> None:
        """Read the questions, and the answers of these pools, into `count` partitions."""
        self.count = count
        session.join()
        tasks.quiet()
        locks.refuse_unshared(run)
        folders = [_QUESTIONS, *(f"answers/{pool}" for pool in pools)]
        blocks = [
            {"kind": folder, "files": files[start : start + _FILES]}
            for folder in folders
            if (files := run.files(folder))
            for start in range(0, len(files), _FILES)
        ]
        cut = ray.data.from_items(blocks, override_num_blocks=len(blocks)).map_batches(
            _cut, fn_args=(run.address, count), batch_size=1, batch_format="pyarrow"
        )
        grouped = cut.groupby("part", num_partitions=min(count, 64))
        self._partitions = _execute(lambda: grouped.map_groups(_gather, batch_format="pyarrow").materialize())

    def map(self, task: Callable[[int, Partition], PartialResult[T]]) -> list[PartialResult[T]]:
        """Run a task on every partition that has questions."""
        mapped = self._partitions.map_batches(_run_task, fn_args=(task,), batch_size=1, batch_format="pyarrow")
        results: list[PartialResult[T]] = _execute(
            lambda: [(_table(row["rows"]), row["sums"]) for row in mapped.iter_rows()]
        )
        return results

    def each(self, files: Sequence[str], task: Callable[[str], pa.Table]) -> list[pa.Table]:
        """Run a task on every file."""
        rows = [{"file": file} for file in files]
        mapped = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _each, fn_args=(task,), batch_size=1, batch_format="pyarrow"
        )
        tables: list[pa.Table] = _execute(lambda: [_table(row["rows"]) for row in mapped.iter_rows()])
        return tables


def _execute(plan: Callable[[], Any]) -> Any:
    try:
        return plan()
    except ray.exceptions.RayError as error:
        raise tasks.reason(error) from error


def _cut(blocks: pa.Table, address: str, count: int) -> Iterator[pa.Table]:
    """Read files, and yield each file cut by partition: one row for each partition that occurs in it."""
    run = RunDir(address)
    for block in blocks.to_pylist():
        for name in block["files"]:  # one file at a time: several together may hold more text than one column can
            table = run.read_table(name)
            part = np.array([part_of(str(task_id), count) for task_id in table["task_id"].to_pylist()], dtype=np.int64)
            rows = [
                {"part": int(number), "kind": block["kind"], "rows": _bytes(table.take(np.flatnonzero(part == number)))}
                for number in np.unique(part)
            ]
            yield pa.Table.from_pylist(rows, schema=_CUT)


def _gather(group: pa.Table) -> pa.Table:
    """Return all pieces of one partition as one row."""
    kind_column: Any = group["kind"].to_pylist()
    kinds = sorted(set(kind_column))
    pieces: dict[str, list[bytes]] = {kind: [] for kind in kinds}
    for row in group.to_pylist():
        pieces[str(row["kind"])].append(row["rows"])
    whole = [_bytes(pa.concat_tables(map(_table, pieces[kind]))) for kind in kinds]
    return pa.table(
        {
            "part": pa.array([group["part"][0].as_py()], pa.int64()),
            "kinds": pa.array([kinds]),
            "pieces": pa.array([whole], pa.list_(_BYTES)),
        }
    )


def _run_task(partitions: pa.Table, task: Callable[[int, Partition], PartialResult[Any]]) -> pa.Table:
    parts, totals = [], []
    for row in partitions.to_pylist():
        tables = dict(zip(row["kinds"], map(_table, row["pieces"]), strict=True))
        if _QUESTIONS not in tables:  # answers to questions that are no longer asked
            continue
        answers = {kind.removeprefix("answers/"): [table] for kind, table in tables.items() if kind != _QUESTIONS}
        columns, sums = task(row["part"], Partition.of(tables[_QUESTIONS], answers))
        parts.append(_bytes(columns))
        totals.append(sums)
    # Ray carries an object of Python as it carries the result of any task.
    return pa.table({"rows": pa.array(parts, _BYTES), "sums": ArrowPythonObjectArray.from_objects(totals)})


def _each(files: pa.Table, task: Callable[[str], pa.Table]) -> pa.Table:
    rows = [{"rows": _bytes(task(str(name)))} for name in files["file"].to_pylist()]
    return pa.Table.from_pylist(rows, schema=pa.schema({"rows": _BYTES}))


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _table(rows: bytes) -> pa.Table:
    return pa.ipc.open_stream(rows).read_all()
