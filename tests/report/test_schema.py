"""The schema of report.json: the file in docs/ is the models', and reports of before are read and kept as they are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from codemmlu.cli import steps
from codemmlu.cli.console import Terminal
from codemmlu.errors import UserError
from codemmlu.report.json_schema import report_schema
from codemmlu.report.schema import Report
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question, to_table
from tests.support.rows import question

ROOT = Path(__file__).parents[2]
EARLIER = (ROOT / "tests" / "fixtures" / "earlier_run" / "run" / "report.json").read_text()


def shown(folder: Path, report: dict[str, Any]) -> dict[str, Any]:
    """What jobs/report.py --json prints of a run with this report."""
    run = RunDir(str(folder))
    run.create()
    run.write_table("questions/000000.parquet", to_table([question("t0")], Question))
    run.write("report.json", json.dumps(report).encode())
    printed: dict[str, Any] = steps.compare(Terminal(), [run.address]).report
    return printed


def test_the_schema_in_docs_is_that_of_the_models() -> None:
    """To write it anew: python -m codemmlu.report.json_schema > docs/report-schema.json."""
    assert (ROOT / "docs" / "report-schema.json").read_text() == report_schema()


def test_an_earlier_report_is_valid_by_the_schema_in_docs() -> None:
    jsonschema.validate(json.loads(EARLIER), json.loads((ROOT / "docs" / "report-schema.json").read_text()))


def test_every_key_of_the_report_is_described() -> None:
    schema = json.loads(report_schema())
    for section in (schema, *schema["$defs"].values()):
        assert section["description"], section["title"]
        for name, field in section["properties"].items():
            assert field.get("description"), f"{section['title']}.{name}"


def test_every_section_is_written_as_it_was_read() -> None:
    """To the last byte: the order of keys, and 0 where a sum of nothing is no 0.0."""
    report = Report.model_validate_json(EARLIER).model_dump(mode="json")
    assert {name: json.dumps(section) for name, section in report.items()} == {
        name: json.dumps(section) for name, section in json.loads(EARLIER).items()
    }


def _without_what_came_later(report: dict[str, Any]) -> None:
    del report["training"]
    for voter in report["voters"].values():
        del voter["adapter"]
    for rows in report["slices"].values():
        for row in rows:
            del row["vote"]


def _with_what_may_come(report: dict[str, Any]) -> None:
    report["weather"] = {"rain": 0.5}
    report["out"] = "runs/caf\udce9"  # a path that is not UTF-8
    report["voters"]["direct"]["height"] = [1, 2]


@pytest.mark.parametrize("change", [_without_what_came_later, _with_what_may_come])
def test_a_report_of_another_version_is_shown_as_it_is(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    report = json.loads(EARLIER)
    change(report)
    assert shown(tmp_path, report) == report


def test_a_report_without_a_section_is_refused_by_its_key(tmp_path: Path) -> None:
    report = json.loads(EARLIER)
    del report["voters"]["direct"]["answered"]
    with pytest.raises(UserError, match=r"report\.json: voters\.direct\.answered: .*jobs/vote\.py") as refused:
        shown(tmp_path, report)
    assert "\n" not in str(refused.value)
