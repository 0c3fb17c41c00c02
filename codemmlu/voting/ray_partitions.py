"""The Ray Data plan of the reduce: a groupby over the stored Parquet files, for questions that one process does not
hold.

[places of files] -> read, cut by part -> groupby part -> whole parts -> tell | tell | ...
Tables travel as Arrow's own bytes: the groupby moves few long rows, whatever their schema.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
import ray.exceptions

from codemmlu.cluster import locks, session, tasks
from codemmlu.run_dir import RunDir
from codemmlu.voting.aggregation import Partition
from codemmlu.voting.reduction import PartialResult, part_of

# Files that one task reads: what an engine leaves behind is many and small.
_FILES = 64
_BYTES: Any = pa.large_binary()  # one may hold more than 2 GiB
_CUT: Any = pa.schema({"part": pa.int64(), "kind": pa.string(), "rows": _BYTES})
_TOLD: Any = pa.schema({"rows": _BYTES, "sums": pa.large_string()})
_QUESTIONS = "questions"


class RayPartitions:
    """All questions with their answers, cut into parts, wherever Ray keeps them."""

    def __init__(self, run: RunDir, pools: Sequence[str], count: int) -> None:
        self.count = count
        session.join()
        tasks.quiet()
        locks.refuse_unshared(run)
        folders = [_QUESTIONS, *(f"answers/{pool}" for pool in pools)]
        places = [
            {"kind": folder, "files": files[start : start + _FILES]}
            for folder in folders
            if (files := run.files(folder))
            for start in range(0, len(files), _FILES)
        ]
        cut = ray.data.from_items(places, override_num_blocks=len(places)).map_batches(
            _cut, fn_args=(run.address, count), batch_size=1, batch_format="pyarrow"
        )
        grouped = cut.groupby("part", num_partitions=min(count, 64))
        self._parts = _ran(lambda: grouped.map_groups(_gather, batch_format="pyarrow").materialize())

    def map(self, task: Callable[[int, Partition], PartialResult]) -> list[PartialResult]:
        """See Partitions."""
        told = self._parts.map_batches(_told, fn_args=(task,), batch_size=1, batch_format="pyarrow")
        found: list[PartialResult] = _ran(
            lambda: [(_table(row["rows"]), json.loads(row["sums"])) for row in told.iter_rows()]
        )
        return found

    def each(self, files: Sequence[str], task: Callable[[str], pa.Table]) -> list[pa.Table]:
        """See Partitions."""
        places = [{"file": file} for file in files]
        told = ray.data.from_items(places, override_num_blocks=len(places)).map_batches(
            _each, fn_args=(task,), batch_size=1, batch_format="pyarrow"
        )
        found: list[pa.Table] = _ran(lambda: [_table(row["rows"]) for row in told.iter_rows()])
        return found


def _ran(plan: Callable[[], Any]) -> Any:
    try:
        return plan()
    except ray.exceptions.RayError as error:
        raise tasks.reason(error) from error


def _cut(place: pa.Table, address: str, count: int) -> Iterator[pa.Table]:
    """Files in, out come their rows cut by part, one row for each part that has some."""
    run = RunDir(address)
    for one in place.to_pylist():
        for name in one["files"]:  # each by itself: several together may hold more text than one column can
            table = run.read_table(name)
            part = np.array([part_of(str(task_id), count) for task_id in table["task_id"].to_pylist()], dtype=np.int64)
            rows = [
                {"part": int(number), "kind": one["kind"], "rows": _bytes(table.take(np.flatnonzero(part == number)))}
                for number in np.unique(part)
            ]
            yield pa.Table.from_pylist(rows, schema=_CUT)


def _gather(group: pa.Table) -> pa.Table:
    """All pieces of one part as one row."""
    named: Any = group["kind"].to_pylist()
    kinds = sorted(set(named))
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


def _told(parts: pa.Table, ask: Callable[[int, Partition], PartialResult]) -> pa.Table:
    rows = []
    for row in parts.to_pylist():
        tables = dict(zip(row["kinds"], map(_table, row["pieces"]), strict=True))
        if _QUESTIONS not in tables:  # answers to questions that are asked no more
            continue
        answers = {kind.removeprefix("answers/"): [table] for kind, table in tables.items() if kind != _QUESTIONS}
        columns, sums = ask(row["part"], Partition.of(tables[_QUESTIONS], answers))
        rows.append({"rows": _bytes(columns), "sums": json.dumps(sums)})
    return pa.Table.from_pylist(rows, schema=_TOLD)


def _each(places: pa.Table, ask: Callable[[str], pa.Table]) -> pa.Table:
    rows = [{"rows": _bytes(ask(str(name)))} for name in places["file"].to_pylist()]
    return pa.Table.from_pylist(rows, schema=pa.schema({"rows": _BYTES}))


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _table(rows: bytes) -> pa.Table:
    return pa.ipc.open_stream(rows).read_all()
