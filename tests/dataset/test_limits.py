"""Files that say more than memory holds: one line, whatever their size on disk."""

import bz2
import gzip
import io
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codemmlu.dataset.cleaner import Cleaner
from codemmlu.dataset.files import files
from codemmlu.dataset.limits import Limits
from codemmlu.dataset.loader import QuestionStream
from codemmlu.dataset.readers import Record
from codemmlu.dataset.readers.arrow_reader import read_parquet
from codemmlu.dataset.readers.csv_reader import read_csv
from codemmlu.dataset.readers.json_reader import read_json
from codemmlu.errors import UserError
from codemmlu.recipe import QuestionSettings
from codemmlu.schema import Rejected

SMALL = Limits(1, 1, 1)
HEAD = b"task_id,question,choices,answer\n"


@pytest.mark.parametrize(
    ("read", "content", "why"),
    [
        (read_csv, HEAD + b"a," + b"x" * 2**21, r"f:2: a line of more than 1 MiB; .* raise questions.max_line_mib"),
        (read_json, b"{}\n" * 3 + b'{"question": "' + b"x" * 2**21, "f:4: a line of more than 1 MiB"),
        (read_csv, HEAD + b'a,"' + b"x\n" * 2**20 + b'",b,c\n', "f:2: a field of more than 1 MiB"),
    ],
)
def test_what_is_too_long_is_one_line(read: object, content: bytes, why: str) -> None:
    with pytest.raises(UserError, match=why):
        list(read(io.BytesIO(content), "f", "utf-8", SMALL))  # type: ignore[operator]


def test_a_file_that_is_decoded_as_a_whole_has_a_limit() -> None:
    with pytest.raises(UserError, match="f: more than 8 MiB in an encoding that is read as a whole; save it as UTF-8"):
        list(read_csv(io.BytesIO(("x," * 2**22).encode("utf-16")), "f", "utf-16", SMALL))


def test_what_is_just_as_long_is_read() -> None:
    text = b'{"question": "' + b"x" * (2**20 - 20) + b'"}\n'
    assert len(list(read_json(io.BytesIO(text * 3), "f", "utf-8", SMALL))) == 3


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_a_bomb_is_one_line(compress: object, tmp_path: Path) -> None:
    file = tmp_path / ("q.csv.gz" if compress is gzip.compress else "q.csv.bz2")
    file.write_bytes(compress(HEAD + b"x" * 2**24))  # type: ignore[operator]
    assert file.stat().st_size < 200_000
    with pytest.raises(UserError, match=r"q\.csv.*: [\d,]+ bytes that unpack to over [\d,]+, which no text does"):
        list(QuestionStream(QuestionSettings(source=str(file))).rows())


@pytest.mark.parametrize("layers", [1, 2])
def test_neither_does_an_archive_in_an_archive(layers: int, tmp_path: Path) -> None:
    content = HEAD + (b"x" * 1000 + b"\n") * 2**13
    for _ in range(layers):
        content = gzip.compress(content)
    (tmp_path / "q.csv.gz").write_bytes(content)
    with pytest.raises(UserError, match="which no text does; if it is meant, unpack the file first"):
        list(QuestionStream(QuestionSettings(source=str(tmp_path / "q.csv.gz"))).rows())


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_an_archive_of_repeated_text_is_read(compress: object, tmp_path: Path) -> None:
    rows = b"".join(b'a%d,"%s",,\n' % (number, b"the same preamble " * 50) for number in range(3000))
    file = tmp_path / ("q.csv.gz" if compress is gzip.compress else "q.csv.bz2")
    file.write_bytes(compress(HEAD + rows))  # type: ignore[operator]
    (source,) = files(str(file), "questions.source")
    with source.open() as stream:
        assert len(list(read_csv(stream, source.name, "utf-8"))) == 3000


def parquet(tmp_path: Path, table: pa.Table, **options: object) -> Path:
    pq.write_table(table, tmp_path / "q.parquet", compression="zstd", **options)  # type: ignore[arg-type]
    return tmp_path / "q.parquet"


def test_rows_that_a_parquet_file_cannot_hold_are_refused(tmp_path: Path) -> None:
    rows = 5_000_000
    file = parquet(tmp_path, pa.table({"question": pa.nulls(rows, pa.string())}), row_group_size=rows)
    with pytest.raises(UserError, match=r"5,000,000 rows in [\d,]+ bytes, which cannot be questions"):
        list(QuestionStream(QuestionSettings(source=str(file))).rows())


def test_a_row_group_that_is_too_large_is_refused(tmp_path: Path) -> None:
    file = parquet(tmp_path, pa.table({"question": ["x" * 2**20] * 3}), use_dictionary=False)
    with file.open("rb") as stream, pytest.raises(UserError, match="row group 0: data of more than 1 MiB"):
        list(read_parquet(stream, "f", "", SMALL))


def test_a_text_of_a_dictionary_is_a_field(tmp_path: Path) -> None:
    file = parquet(tmp_path, pa.table({"question": ["x" * (2**20 + 1)]}))
    with file.open("rb") as stream, pytest.raises(UserError, match="f:1: the field 'question' of more than 1 MiB"):
        list(read_parquet(stream, "f", "", Limits(1, 1, 100)))


@pytest.mark.parametrize(
    "choices", ["[" + "1.50, " * 20_000 + "]", str(["x"] * 20_000), "(" + "'a', " * 27 + ")", ["x"] * 100_000]
)
def test_too_many_choices_are_rejected_before_anything_else(choices: object) -> None:
    began = time.process_time()
    row = Cleaner().clean(Record("f", 1, {"task_id": "a", "question": "q", "choices": choices}))
    assert isinstance(row, Rejected)
    assert "choices, where 2 to 26 can be asked" in row.reason
    assert time.process_time() - began < 5, "it took over 90 s"


def test_a_long_text_is_no_python_literal() -> None:
    row = Cleaner().clean(Record("f", 1, {"task_id": "a", "question": "q", "choices": "['a', " + " " * 2**20}))
    assert isinstance(row, Rejected)


@pytest.mark.parametrize("name", ["punycode", "idna", "undefined", "unicode_escape", "rot13", "base64", "no-such", ""])
def test_a_codec_in_which_no_file_is_written_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="encoding: there is no"):
        QuestionSettings(encoding=name)


@pytest.mark.parametrize("name", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "latin-1", "utf-32-le", "gb18030"])
def test_a_codec_of_files_is_taken(name: str) -> None:
    assert QuestionSettings(encoding=name).encoding == name
