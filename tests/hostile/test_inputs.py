"""Questions and submissions from anyone: rows, tables and files that are none."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.hostile import NOISE, ROW, dry


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "xlsx", "csv.gz", "jsonl.bz2", "jsonl.zst"])
@pytest.mark.parametrize("number", range(len(NOISE)))
def test_questions(tmp_path: Path, ending: str, number: int) -> None:
    (tmp_path / f"q.{ending}").write_bytes(NOISE[number])
    done = dry(tmp_path, f"questions.source={tmp_path}/q.{ending}")
    assert done.code == 2, "there is no question in it"


VALUES: dict[str, tuple[object, ...]] = {
    "choices": (
        *([], [[]], {}, "", "[", "('a'", "['a' 'b']", 3, True, None, ["x"] * 27, "A" * 99999, [{}, {}]),
        *("[" + "9" * 5000 + ", 1]", "[" * 2000, "-" * 3000 + "1"),
    ),
    "question": ("", " ", [], {}, "\ud800", "\0", "\u202e", "x" * 10**6),
    "answer": ("", "Z", "A" * 500, " " * 99999, [], {}, 1e300, True, "\ud800", "answer" * 5000),
    "task_id": ("", [], {}, "\0", "../../x", "\ud800", "a\nb", "x" * 10**5, True),
    "subject": ([], {}, "\0", "\ud800"),
}
ROWS: list[dict[str, object]] = [{name: value} for name, values in VALUES.items() for value in values]
ROWS += [{"A": "x"}, {"TASK_ID": "b"}, {"": ""}, {"\0": "\0"}, {"option_a": "x", "option_1": "y"}]


@pytest.mark.parametrize("number", range(len(ROWS)))
def test_a_row_of_questions(tmp_path: Path, number: int) -> None:
    row = {"task_id": "b", "question": "q?", "choices": ["x", "y"], "answer": "A"} | ROWS[number]
    (tmp_path / "q.jsonl").write_bytes(ROW + json.dumps(row).encode() + b"\n")
    done = dry(tmp_path, f"questions.source={tmp_path}/q.jsonl")
    assert done.code == 0, "one bad row stops nothing"


PARQUET = {
    "struct twice": pa.table({"choices": pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])}),
    "column twice": pa.table([pa.array(["a"]), pa.array(["b"])], names=["question", "question"]),
    "no rows": pa.table({"question": pa.array([], pa.string())}),
    "no columns": pa.table({}),
    "nulls": pa.table({"question": pa.nulls(10), "choices": pa.nulls(10)}),
    "maps": pa.table({"question": ["q"], "choices": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))}),
    "dates": pa.table({"question": ["q"], "choices": pa.array([[2**40, 1]], pa.list_(pa.timestamp("s")))}),
    "decimals": pa.table({"question": ["q"], "choices": pa.array([[1, 2]], pa.list_(pa.int8()))}),
    "bytes": pa.table({"question": [b"\xff"], "choices": [[b"\xff", b"\xfe"]]}),
}


@pytest.mark.parametrize("name", PARQUET)
def test_questions_in_parquet(tmp_path: Path, name: str) -> None:
    pq.write_table(PARQUET[name], tmp_path / "q.parquet")
    dry(tmp_path, f"questions.source={tmp_path}/q.parquet")


@pytest.mark.parametrize("number", range(len(NOISE)))
def test_submissions(tmp_path: Path, number: int) -> None:
    (tmp_path / "s.csv").write_bytes(NOISE[number])
    done = dry(tmp_path, f"voters.other.source={tmp_path}/s.csv")
    assert done.code == 2


def test_a_loop_of_links_and_a_glob_that_has_many_ways(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "data")
    (tmp_path / "data" / ("a" * 200)).write_bytes(b"")
    for pattern in (
        "**/*.jsonl",
        "**/a/**/b/**/*.jsonl",
        "a*" * 30 + "b.jsonl",
        "**a" * 20 + ".jsonl",
        "**/" * 30 + "*.jsonl",
    ):
        done = dry(tmp_path, f"questions.source={tmp_path}/data/{pattern}")
        assert done.code == 2
