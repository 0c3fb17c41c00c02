"""report.html: one file that opens offline and prints well.

All text from questions and models is untrusted: the page's data is JSON with an escaped `<`, the page's script inserts
the data as text, and a content security policy lets only that one script run and loads nothing.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from codemmlu.report.canvas import Figure
from codemmlu.report.question_list import FirstPrompt, ListedQuestion
from codemmlu.report.schema import Report
from codemmlu.report.statistics import wilson
from codemmlu.report.summary import headline

_CUT = 400  # the most characters of a name or an error
_TEMPLATE, _STYLE = "page.html.jinja", "page.css"
_SCRIPTS = ("page.js", "page_compare.js", "page_tables.js")


@dataclass(frozen=True)
class Making:
    """How a report was made, for readers who want to make it again.

    Attributes:
        command: The command of the run, without credentials.
        recipe: The resolved recipe, as YAML.
        prompts: See `question_list.prompts`.
        versions: The version of each distribution that the results depend on.
        hashes: The SHA-256 of each file that a second run should write alike.
    """

    command: str
    recipe: str
    prompts: Sequence[FirstPrompt]
    versions: Mapping[str, str]
    hashes: Mapping[str, str]


def page(report: Report, figures: Sequence[Figure], questions: Sequence[ListedQuestion], making: Making) -> str:
    """Render the page.

    Args:
        report: The results of the run.
        figures: See `figures.figures`.
        questions: See `question_list.details`.
        making: How the report was made.

    Returns:
        The text of report.html.
    """
    script = "\n".join(map(_file, _SCRIPTS))
    data = {"voters": list(report.voters), "questions": questions, "all": report.questions}
    html: str = (
        _environment()
        .get_template(_TEMPLATE)
        .render(
            report=report,
            headline=headline(report),
            figures=figures,
            making=making,
            style=_file(_STYLE),
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            data=in_script(data),
        )
    )
    return html


def in_script(data: Any) -> str:
    """Return JSON for a script element: without `<`, which could end the element or begin a comment."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


@cache
def _file(name: str) -> str:
    return resources.files("codemmlu.report").joinpath(name).read_text(encoding="utf-8")


def _environment() -> Any:
    from jinja2 import DictLoader, Environment, StrictUndefined

    environment = Environment(
        loader=DictLoader({_TEMPLATE: _file(_TEMPLATE)}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cut"] = lambda text: text if len(text) <= _CUT else f"{text[:_CUT]} …"
    environment.filters["share"] = lambda value: "–" if value is None else f"{value:.3f}"
    environment.filters["count"] = lambda value: f"{value:,}"
    environment.filters["between"] = lambda value: "–" if value is None else f"{value[0]:.3f} to {value[1]:.3f}"
    environment.filters["percent"] = lambda value: "–" if value is None else f"{value:.1%}"
    environment.filters["percents"] = lambda value: "" if value is None else f"{value[0]:.1%} to {value[1]:.1%}"
    environment.filters["of"] = _with_interval
    environment.filters["p"] = lambda value: "< 0.001" if value < 0.001 else f"{value:.3f}"
    return environment


def _with_interval(accuracy: float | None, questions: int) -> str:
    """Return an accuracy with its 95 % interval (Wilson 1927), by the number of questions."""
    interval = None if accuracy is None else wilson(round(accuracy * questions), questions)
    return "–" if interval is None else f"{accuracy:.3f} ({interval[0]:.2f} to {interval[1]:.2f})"
