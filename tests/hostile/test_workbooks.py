"""Workbooks from anyone: cells in far corners, parts that are missing or broken, and parts that unpack to too much."""

import random
from pathlib import Path

import pytest

from tests.support.hostile import dry
from tests.support.workbooks import (
    BOOK,
    HEADER,
    ROWS,
    SHEET,
    STRINGS,
    TYPES,
    cell,
    cells,
    parts,
    strings,
    typed,
    with_headers,
    workbook,
)

LAUGHS = '<!DOCTYPE x [<!ENTITY a0 "xxxxxxxxxx">'
LAUGHS += "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)) + "]>"
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
MANY = 400_000  # of what costs a parser some microseconds each

CORNERS = "".join(f'<row r="{n}">{cell(f"XFD{n}")}</row>' for n in range(3, 3000))
# What can be read: one question.
READ = {
    "as Excel writes it": parts(),
    "a corner": parts(f'{ROWS}<row r="1048576">{cell("XFD1048576")}</row>'),
    "many corners": parts(ROWS + CORNERS),
    "a last row": parts(f'{ROWS}<row r="1048576">{cell("A1048576")}</row>'),
    "a column after the last": parts(f'{ROWS}<row r="3">{cell("ZZZ3")}</row>'),
    "a size that is too large": parts(before='<dimension ref="A1:XFD1048576"/>'),
    "a size that is too small": parts(before='<dimension ref="A1"/>'),
}
# What cannot, with what is said.
REFUSED = {
    "corners alone": (
        parts("".join(f'<row r="{n}">{cell(f"XFD{n}")}</row>' for n in range(1, 2000))),
        "it has no rows",
    ),
    "a header in a corner": (parts(f'<row r="1">{cell("XFD1")}</row>'), "it has no rows"),
    "a row after the last": (
        parts(f'{ROWS}<row r="999999999">{cell("A999999999")}</row>'),
        "a sheet of more than 1,048",
    ),
    "a row far after the last": (parts(f'{ROWS}<row r="{10**30}">{cell("A1")}</row>'), "a sheet of more than 1"),
    "a column of no name": (parts(f'{ROWS}<row r="3">{cell("ZZZZZZ3")}</row>'), "not an Excel workbook"),
    "a cell of no name": (parts(f'{HEADER}<row r="2">{cell("!!")}</row>'), "not an Excel workbook"),
    "a row of no number": (parts(f'{HEADER}<row r="two">{cells(2, "a")}</row>'), "not an Excel workbook"),
    "a size of nonsense": (parts(before='<dimension ref="nonsense"/>'), "not an Excel workbook"),
    "no size": (parts(before="<dimension/>"), "not an Excel workbook"),
    "a number of letters": (parts(typed("n", "abc")), "not an Excel workbook"),
    "a number of many digits": (parts(typed("n", "9" * 5000)), "not an Excel workbook"),
    "a truth of letters": (parts(typed("b", "maybe")), "not an Excel workbook"),
    "no date": (parts(typed("d", "tomorrow")), "not an Excel workbook"),
    "a text that is not there": (parts(typed("s", 99)), "not an Excel workbook"),
    "a text before the first": (parts(typed("s", -1)), "not an Excel workbook"),
    "no texts": ({**parts(), STRINGS: "<"}, "not an Excel workbook"),
    "laughs in a sheet": (parts(f'{HEADER}<row r="2">{cell("A2", "&a11;")}</row>', "", LAUGHS), "amplification"),
    "laughs in the texts": ({**parts(), STRINGS: strings("<si><t>&a11;</t></si>", LAUGHS)}, "amplification"),
    "a file elsewhere": (parts(f'{HEADER}<row r="2">{cell("A2", "&a;")}</row>', "", OUTSIDE), "undefined entity"),
    "a long text": ({**parts(), STRINGS: strings(f"<si><t>{'x' * 10**7}</t></si>")}, "which no table does"),
    "many texts": ({**parts(), STRINGS: strings("<si><t>x</t></si>" * MANY)}, "which no table does"),
    "many cells": (parts(f"<row>{'<c><v>1</v></c>' * MANY}</row>"), "which no table does"),
    "many rows": (parts(HEADER + "<row><c><v>1</v></c></row>" * MANY), "which no table does"),
    "many sheets": (
        {**parts(), BOOK: parts()[BOOK].replace("<sheet ", "<sheet r='1'/><sheet " * MANY)},
        "which no table",
    ),
    "deep texts": ({**parts(), STRINGS: "<a>" * 300_000}, "not an Excel workbook"),
    "a deep sheet": (parts("<a>" * 300_000), "not an Excel workbook"),
    "a sheet of no name": ({**parts(), BOOK: parts()[BOOK].replace("r0", "r9")}, "not an Excel workbook"),
    "a book without sheets": ({**parts(), BOOK: "<workbook/>"}, "it has no rows"),
    **{f"an empty {name}": ({**parts(), name: ""}, "not an Excel workbook") for name in (TYPES, BOOK, SHEET, STRINGS)},
    **{
        f"without {name}": ({key: text for key, text in parts().items() if key != name}, "")
        for name in (TYPES, BOOK, SHEET, "xl/_rels/workbook.xml.rels")
    },
}
GOOD = workbook(parts())
ARCHIVES = {
    "encrypted": with_headers(GOOD, flag=1),
    "an unknown method": with_headers(GOOD, method=99),
    "another method": with_headers(GOOD, method=12),
    "small sizes": with_headers(GOOD, size=10),
    "large sizes": with_headers(GOOD, size=2**31),
    "cut": GOOD[:-100],
    "empty": b"PK\5\6" + b"\0" * 18,
    "repeated": GOOD + GOOD,
}


def read(tmp_path: Path, content: bytes, code: int, says: str) -> None:
    """Plan a run of the questions in a workbook."""
    (tmp_path / "q.xlsx").write_bytes(content)
    done = dry(tmp_path, f"questions.source={tmp_path}/q.xlsx")
    assert done.code == code, done.err
    assert says in (done.err if code else done.out)


@pytest.mark.parametrize("name", READ)
def test_what_can_be_read_is_read(tmp_path: Path, name: str) -> None:
    read(tmp_path, workbook(READ[name]), 0, "1 questions from")


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_is_refused(tmp_path: Path, name: str) -> None:
    content, says = REFUSED[name]
    read(tmp_path, workbook(content), 2, says)


@pytest.mark.parametrize("name", [name for name in ARCHIVES if name != "repeated"])
def test_a_broken_archive_is_refused(tmp_path: Path, name: str) -> None:
    read(tmp_path, ARCHIVES[name], 2, "q.xlsx: ")


def test_flipped_bytes_are_found_or_change_nothing(tmp_path: Path) -> None:
    draw = random.Random(3)
    for _ in range(25):
        changed = bytearray(GOOD)
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        (tmp_path / "q.xlsx").write_bytes(changed)
        done = dry(tmp_path, f"questions.source={tmp_path}/q.xlsx")
        assert done.code == 2 or "1 questions from" in done.out
