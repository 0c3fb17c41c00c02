"""Excel workbooks part by part, as nothing that Excel writes: openpyxl would not make them."""

import io
import struct
import zipfile
from collections.abc import Mapping

_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml."
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
TYPES, BOOK, SHEET, STRINGS = (
    "[Content_Types].xml",
    "xl/workbook.xml",
    "xl/worksheets/sheet1.xml",
    "xl/sharedStrings.xml",
)


def cells(row: int | str, *texts: str) -> str:
    """Return the cells of a row from column A on."""
    return "".join(cell(f"{column}{row}", text) for column, text in zip("ABCDEFGH", texts, strict=False))


def cell(name: str, text: str = "x") -> str:
    """Return one cell."""
    return f'<c r="{name}" t="inlineStr"><is><t>{text}</t></is></c>'


def typed(kind: str, value: object) -> str:
    """Return a row whose first cell is of a type of its own."""
    return f'{HEADER}<row r="2"><c r="A2" t="{kind}"><v>{value}</v></c></row>'


HEADER = f'<row r="1">{cells(1, "task_id", "question", "choices", "answer")}</row>'
ROWS = f'{HEADER}<row r="2">{cells(2, "a", "q?", "[&quot;x&quot;, &quot;y&quot;]", "A")}</row>'


def parts(rows: str = ROWS, before: str = "", document_type: str = "") -> dict[str, str]:
    """Return the parts of a workbook with one sheet, by name."""
    override = "".join(
        f'<Override PartName="/{name}" ContentType="{_TYPE}{kind}+xml"/>'
        for name, kind in ((BOOK, "sheet.main"), (SHEET, "worksheet"), (STRINGS, "sharedStrings"))
    )
    default = '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    inner = (("worksheet", "worksheets/sheet1.xml"), ("sharedStrings", "sharedStrings.xml"))
    return {
        TYPES: f'<Types xmlns="{_PACKAGE}content-types">{default}{override}</Types>',
        "_rels/.rels": _relationships((("officeDocument", BOOK),)),
        BOOK: f'<workbook xmlns="{MAIN}" xmlns:r="{_OFFICE}"><sheets><sheet name="S" sheetId="1" r:id="r0"/></sheets>'
        "</workbook>",
        "xl/_rels/workbook.xml.rels": _relationships(inner),
        SHEET: f'{document_type}<worksheet xmlns="{MAIN}">{before}<sheetData>{rows}</sheetData></worksheet>',
        STRINGS: strings(""),
    }


def strings(items: str, document_type: str = "") -> str:
    """Return the part of shared texts."""
    return f'{document_type}<sst xmlns="{MAIN}">{items}</sst>'


def _relationships(targets: tuple[tuple[str, str], ...]) -> str:
    items = "".join(
        f'<Relationship Id="r{number}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(targets)
    )
    return f'<Relationships xmlns="{_PACKAGE}relationships">{items}</Relationships>'


def workbook(content: Mapping[str, str]) -> bytes:
    """Return the bytes of a workbook of these parts."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def with_headers(content: bytes, flag: int | None = None, method: int | None = None, size: int | None = None) -> bytes:
    """Return an archive whose headers say something else of every part: a flag, a method or a size."""
    changed = bytearray(content)
    for mark, fields in ((b"PK\3\4", (6, 8, 22)), (b"PK\1\2", (8, 10, 24))):
        position = changed.find(mark)
        while position >= 0:
            for offset, value, form in zip(fields, (flag, method, size), ["<H", "<H", "<I"], strict=True):
                if value is not None:
                    struct.pack_into(form, changed, position + offset, value)
            position = changed.find(mark, position + 4)
    return bytes(changed)
