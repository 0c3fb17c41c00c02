"""report.html: one file that opens offline and prints well.

Everything from questions and models is untrusted: the page's data is JSON with `<` written out, its script puts it in
place as text, and a content security policy lets only that one script run and loads nothing.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from codemmlu.report.summary import headline

_CUT = 400  # characters of a name or an error
_TEMPLATE, _SCRIPT, _STYLE = "page.html.jinja", "page.js", "page.css"


def page(
    report: Mapping[str, Any],
    figures: Sequence[Mapping[str, str]],
    questions: Sequence[Mapping[str, Any]],
    prompts: Sequence[Mapping[str, str]],
    recipe: str,
) -> str:
    """The page.

    report: see outcome; figures: see figures; questions: see details; prompts: how voters are asked;
    recipe: the resolved one, as YAML
    """
    script = _file(_SCRIPT)
    data = {"voters": list(report["voters"]), "questions": questions, "all": report["questions"]}
    made: str = (
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
    return made


def in_script(data: Any) -> str:
    """JSON that can stand in a script element: no `<` ends it, or begins a comment."""
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
