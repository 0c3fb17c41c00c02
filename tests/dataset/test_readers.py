"""The readers, file by file: line numbers, encodings, broken files."""

import bz2
import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codemmlu.schema import Question, Rejected
from tests.support.asking import HEADER, ROW, loaded, mistake, questions, rows, write


def test_a_csv_row_stands_where_its_first_line_is(tmp_path: Path) -> None:
    text = (
        HEADER + "k1,\"one\ntwo\r\n\r\nthree\",\"['a',\n 'b']\",A\n\n\n" + ROW.replace("k1", "k2") + 'k3,"x\ny",[],A\n'
    )
    path = write(tmp_path / "q.csv", text)
    result, read = loaded(path)
    assert [(row.task_id, row.line, row.position) for row in read] == [("k1", 2, 0), ("k2", 9, 1), ("k3", 10, 2)]
    assert isinstance(read[0], Question)
    assert (read[0].question, read[0].file) == ("one\ntwo\r\n\r\nthree", str(path))
    assert (result.questions, result.labelled, result.rejected, result.most_choices) == (2, 2, 1, 2)
    assert result.notes() == [f"1 x rejected: 0 choices, where 2 to 26 can be asked (first at {path}:10)"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8", "utf-16", "utf-16-le", "utf-32", "cp1252", "utf-7"])
@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_every_encoding_is_read(tmp_path: Path, encoding: str, ending: str) -> None:
    text = HEADER + ROW.replace("Which?", '"Where\nis\r\n „é“?"') + ROW.replace("k1", "k2")
    if ending == ".jsonl":
        fields = {"task_id": "k1", "question": "Where\nis\r\n „é“?", "choices": ["a", "b"]}
        lines = [fields, {**fields, "task_id": "k2"}]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    read = questions(write(tmp_path / f"q{ending}", text, encoding), encoding=encoding)
    assert [row.task_id for row in read] == ["k1", "k2"]
    assert read[0].question == "Where\nis\r\n „é“?"
    assert [row.line for row in read] == ([2, 5] if ending == ".csv" else [1, 2])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le"])
def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "q.csv", "\ufeff" + HEADER + ROW, encoding)
    assert questions(path, encoding=encoding)[0].task_id == "k1"


@pytest.mark.parametrize(
    ("content", "encoding", "line", "byte"),
    [
        ((HEADER + ROW).encode() + "k2,é,[],A\n".encode("cp1252"), "utf-8-sig", 3, r"b'\xe9'"),
        ((HEADER + ROW).encode() + b"k2,\xc3", "utf-8-sig", 3, r"b'\xc3'"),
        ((HEADER + ROW).encode() + b"k2,\x81,,\n", "cp1252", 3, r"b'\x81'"),
        ((HEADER + ROW).encode("utf-16") + b"\x00\xd8k\x00", "utf-16", 3, r"b'\x00'"),
    ],
)
def test_wrong_bytes_are_named_with_their_place(
    tmp_path: Path, content: bytes, encoding: str, line: int, byte: str
) -> None:
    path = write(tmp_path / "q.csv", content)
    said = mistake(path, encoding=encoding)
    assert said.startswith(f"{path}:{line}: byte {byte} is not {encoding}; ")
    assert "set questions.encoding" in said


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (HEADER + ROW + 'k2,"said "hi" twice",[],A\n' + ROW, 3, "',' expected after '\"' in line 3"),
        (HEADER + 'k1,"never closed,[],A\n' + 20 * "more\n", 2, "unexpected end of data in line 22"),
        ('"task_id,question\n', 1, "unexpected end of data in line 1"),
    ],
)
def test_broken_quoting_is_an_error_that_names_the_row(tmp_path: Path, text: str, line: int, what: str) -> None:
    path = write(tmp_path / "q.csv", text)
    assert mistake(path) == f"{path}:{line}: broken CSV quoting in the row that begins here ({what}); fix its quotes"


def test_too_many_fields_reject_the_row_and_too_few_leave_blanks(tmp_path: Path) -> None:
    path = write(tmp_path / "q.csv", HEADER + "k1,one, two,\"['a', 'b']\",A\nk2,Which?,\"['a', 'b']\"\n" + ROW)
    read = rows(path)
    assert read[0] == Rejected(None, "more fields than the header: 5 under 4", str(path), 2, 0)
    assert isinstance(read[1], Question)
    assert read[1].answer is None
    assert isinstance(read[2], Question)


def test_a_quote_inside_an_unquoted_field_is_text(tmp_path: Path) -> None:
    path = write(tmp_path / "q.csv", HEADER + ROW.replace("Which?", '5" or 3"?'))
    assert questions(path)[0].question == '5" or 3"?'


@pytest.mark.parametrize("header", ["task_id,question,question,choices\n", "Answer,task_id,answer\n"])
def test_a_column_that_appears_twice_is_an_error(tmp_path: Path, header: str) -> None:
    path = write(tmp_path / "q.csv", header + ROW)
    assert mistake(path).startswith(f"{path}:1: the column ")
    assert "appears twice" in mistake(path)


@pytest.mark.parametrize("content", ["", "\n\n", HEADER])
@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_a_file_without_rows_is_an_error(tmp_path: Path, content: str, ending: str) -> None:
    data = content.encode()
    path = write(tmp_path / f"q{ending}", gzip.compress(data) if ending == ".csv.gz" else data)
    assert mistake(path) == f"questions.source: nothing in {path} can be asked: it has no rows"


def test_a_file_in_which_every_row_is_rejected_says_why(tmp_path: Path) -> None:
    path = write(tmp_path / "q.csv", HEADER + "k1,Q,[],A\nk2,Q,[],A\nk3,,[],A\n")
    assert mistake(path) == (
        f"questions.source: nothing in {path} can be asked: 2 x rejected: 0 choices, where 2 to 26 can be asked "
        f"(first at {path}:2); 1 x rejected: no question text (first at {path}:4: its columns are task_id, question, "
        "choices, answer)"
    )


@pytest.mark.parametrize("lines", [12_500, 125_000])  # 131,072 characters is where Python's csv gives up by itself
def test_a_question_of_100_000_characters_and_more_is_read(tmp_path: Path, lines: int) -> None:
    text = 'x = "y"\n' * lines
    with (tmp_path / "q.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [HEADER.strip().split(","), ["k1", text, "['a', 'b']", "A"], ["k2", "Q", "[1, 2]", "B"]]
        )
    read = questions(tmp_path / "q.csv")
    assert read[0].question == text
    assert [row.line for row in read] == [2, lines + 3]


@pytest.mark.parametrize(("ending", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_compressed_files_are_read(tmp_path: Path, ending: str, compress: Callable[[bytes], bytes]) -> None:
    path = write(tmp_path / f"q.csv{ending}", compress((HEADER + ROW).encode()))
    assert [(row.task_id, row.file, row.line) for row in questions(path)] == [("k1", str(path), 2)]
    write(path, path.read_bytes()[:-12])
    assert mistake(path).startswith(f"questions.source: {path} cannot be read: ")
    write(path, HEADER + ROW)
    assert mistake(path).startswith(f"questions.source: {path} cannot be read: ")


def test_bad_lines_of_jsonl_are_rejected_with_their_place(tmp_path: Path) -> None:
    good = '{"task_id": "k%d", "question": "Q", "choices": ["a", 1.50], "answer": "a"}\n'
    bad = '{"task_id": \n[1, 2]\n"text"\nnull\n\n  \n' + "[" * 200_000 + "\n"
    path = write(tmp_path / "q.jsonl", good % 1 + bad + good.strip() % 2)
    result, read = loaded(path)
    assert [row.line for row in read] == [1, 2, 3, 4, 5, 8, 9]
    reasons = [row.reason for row in read if isinstance(row, Rejected)]
    assert reasons[0].startswith("not JSON: Expecting value")
    assert reasons[1:4] == [f"a JSON {kind} where an object should be" for kind in ("list", "str", "NoneType")]
    assert reasons[4].startswith("not JSON: ")
    assert [row.choices for row in read if isinstance(row, Question)] == [("a", "1.50")] * 2
    assert result.notes()[0] == f"2 x rejected: not JSON (first at {path}:2)"


@pytest.mark.parametrize("content", [b"", HEADER.encode(), b"PAR1" + bytes(100) + b"PAR1"])
def test_a_parquet_file_that_is_none_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "q.parquet", content)
    message = mistake(path)
    assert message.startswith((f"{path}: not a Parquet file (", f"questions.source: {path} cannot be read: "))


def test_a_parquet_file_with_a_broken_page_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    pq.write_table(pa.table({"question": [f"Which {n}?" for n in range(5_000)]}), path)
    content = bytearray(path.read_bytes())
    content[200:350] = bytes(150)
    path.write_bytes(content)
    assert mistake(path).startswith(f"questions.source: {path} cannot be read: ")


def test_a_parquet_file_whose_strings_are_no_utf8_is_an_error(tmp_path: Path) -> None:
    offsets = pa.py_buffer(bytes([0, 0, 0, 0, 4, 0, 0, 0]))
    strings = pa.StringArray.from_buffers(1, offsets, pa.py_buffer(b"caf\xe9"))
    pq.write_table(pa.table({"question": strings}), tmp_path / "q.parquet")
    assert "'utf-8' codec can't decode byte 0xe9" in mistake(tmp_path / "q.parquet")


def test_parquet_rows_are_counted_over_row_groups_and_batches(tmp_path: Path) -> None:
    ids = [f"k{number}" for number in range(2_500)]
    fields = {"task_id": ids, "question": [b"caf\xc3\xa9"] * 2_500, "choices": [["a", "b"]] * 2_500}
    pq.write_table(pa.table({**fields, "answer": [1.0, None] * 1_250}), tmp_path / "q.parquet", row_group_size=700)
    read = questions(tmp_path / "q.parquet", answers="zero-based")
    assert [(row.task_id, row.line, row.position) for row in read] == [(k, n + 1, n) for n, k in enumerate(ids)]
    assert {row.question for row in read} == {"café"}
    assert [row.answer for row in read[:4]] == ["B", None, "B", None]


def test_a_short_row_is_read_and_said(tmp_path: Path) -> None:
    path = write(tmp_path / "q.csv", "task_id,question,A,B,C,answer\nk1,q,x,y,z,B\nk2,q,x,y\n")
    read, rows = loaded(path)
    assert [(row.choices, row.answer) for row in rows if isinstance(row, Question)] == [
        (("x", "y", "z"), "B"),
        (("x", "y"), None),
    ]
    what = "rows with fewer fields than the header: what is missing counts as empty"
    assert read.notes() == [f"1 x {what} (first at {path}:3)"]


def test_what_pandas_writes_for_nothing_is_nothing(tmp_path: Path) -> None:
    row = '{"task_id": NaN, "question": "Which?", "A": "x", "B": "y", "C": NaN, "subject": NaN, "answer": "A"}'
    path = write(tmp_path / "q.jsonl", row + "\n" + '{"question": NaN, "choices": [NaN, 1]}\n')
    first, second = rows(path)
    assert isinstance(first, Question)
    assert isinstance(second, Rejected)
    assert (first.choices, first.subject, first.task_id) == (("x", "y"), None, "q.jsonl:1")
    assert second.reason.startswith("no question text: ")
    (listed,) = questions(write(tmp_path / "l.jsonl", '{"question": "Which?", "choices": [NaN, 1.50]}\n'))
    assert listed.choices == ("NaN", "1.50")


def test_a_name_that_stands_twice_is_not_guessed(tmp_path: Path) -> None:
    whole = '{"question": "q", "choices": ["a", "b"]}\n'
    double = '{"question": "q", "choices": ["a", "b"], "answer": "A", "answer": "B"}\n'
    (row,) = [row for row in rows(write(tmp_path / "q.jsonl", double + whole)) if isinstance(row, Rejected)]
    assert row.reason == "not JSON: 'answer' stands there twice"
    table = pa.table([["q"], ["A"], ["B"]], names=["question", "answer", "answer"])
    pq.write_table(table, tmp_path / "q.parquet")
    assert mistake(tmp_path / "q.parquet").endswith("the column 'answer' appears twice; rename one of them")
