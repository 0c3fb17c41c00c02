"""The JSON schema of report.json, for docs/report-schema.json.

python -m codemmlu.report.json_schema > docs/report-schema.json
"""

import inspect
import json
import re

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from codemmlu.report.schema import Report

_ATTRIBUTES = "Attributes:\n"


class _Described(GenerateJsonSchema):
    """Take the descriptions of fields from the section `Attributes:` of docstrings."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Return the JSON schema of a model, with a description of each field."""
        described = super().model_schema(schema)
        _describe(described, schema["cls"])
        return described

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        """Return the JSON schema of a dataclass, with a description of each field."""
        described = super().dataclass_schema(schema)
        _describe(described, schema["cls"])
        return described


def report_schema() -> str:
    """Return the JSON schema of report.json, as text."""
    schema = Report.model_json_schema(schema_generator=_Described)
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _describe(described: JsonSchemaValue, cls: type) -> None:
    """Put the descriptions of a class, and of the fields that it has or inherits, into its JSON schema."""
    described["description"] = _split(cls)[0]
    for base in reversed(cls.__mro__):
        for name, text in _split(base)[1].items() if base not in (object, BaseModel) else ():
            if name in described["properties"]:
                described["properties"][name]["description"] = text


def _split(cls: type) -> tuple[str, dict[str, str]]:
    """Split a docstring into its text and the descriptions of attributes, each on one line."""
    text, _, attributes = inspect.cleandoc(cls.__doc__ or "").partition(_ATTRIBUTES)
    parts = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE)
    return " ".join(text.split()), {name: " ".join(text.split()) for name, text in parts}


if __name__ == "__main__":
    print(report_schema(), end="")
