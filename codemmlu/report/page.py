"""report.html: one file that opens offline and prints well.

All text from questions and models is untrusted: the page's data is JSON with an escaped `<`, the page's script inserts
the data as text, and a content security policy lets only that one script run and loads nothing.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from codemmlu.report.canvas import Figure
from codemmlu.report.question_list import FirstPrompt, ListedQuestion
from codemmlu.report.schema import Report
from codemmlu.report.summary import headline

_CUT = 400  # the most characters of a name or an error
_TEMPLATE, _SCRIPT, _STYLE = "page.html.jinja", "page.js", "page.css"


def page(
    report: Report,
    figures: Sequence[Figure],
    questions: Sequence[ListedQuestion],
    prompts: Sequence[FirstPrompt],
    recipe: str,
) -> str:
    """Render the page.

    Args:
        report: The results of the run.
        figures: See `figures.figures`.
        questions: See `question_list.details`.
        prompts: See `question_list.prompts`.
        recipe: The resolved recipe, as YAML.

    Returns:
        The text of report.html.
    """
    script = _file(_SCRIPT)
    data = {"voters": list(report.voters), "questions": questions, "all": report.questions}
    html: str = (
        _environment()
        .get_template(_TEMPLATE)
        .render(
            report=report,
            headline=headline(report),
            figures=figures,
            prompts=prompts,
            recipe=recipe,
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
    environment.filters["p"] = lambda value: "< 0.001" if value < 0.001 else f"{value:.3f}"
    return environment
