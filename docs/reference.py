"""Write docs/reference/recipe.md: every key of a recipe, from the pydantic models and the comments beside them.

python docs/reference.py
"""

import ast
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codemmlu.recipe.base import Settings
from codemmlu.recipe.data import EmbedderSettings, ExampleSettings, HoldoutSettings, QuestionSettings
from codemmlu.recipe.finetune import FinetuneSettings
from codemmlu.recipe.models import ModelSettings
from codemmlu.recipe.output import FitSettings, ReportSettings, SubmissionSettings, VoteSettings
from codemmlu.recipe.recipe import Recipe
from codemmlu.recipe.voters import (
    DirectVoter,
    ExecuteVoter,
    ReasonVoter,
    RetrieveVoter,
    SampleVoter,
    StaticVoter,
    SubmissionVoter,
    VerbatimVoter,
    VerifyRankVoter,
    VerifyVoter,
    WhenSettings,
)

PAGE = Path(__file__).parent / "reference" / "recipe.md"
SECTIONS: tuple[tuple[str, type[Settings]], ...] = (
    ("", Recipe),
    ("questions", QuestionSettings),
    ("questions.holdout", HoldoutSettings),
    ("examples", ExampleSettings),
    ("examples.embedder", EmbedderSettings),
    ("models.NAME", ModelSettings),
    ("voters.NAME, method: direct", DirectVoter),
    ("voters.NAME, method: verify", VerifyVoter),
    ("voters.NAME, method: verify-rank", VerifyRankVoter),
    ("voters.NAME, method: reason", ReasonVoter),
    ("voters.NAME, method: sample", SampleVoter),
    ("voters.NAME, method: retrieve", RetrieveVoter),
    ("voters.NAME, method: static", StaticVoter),
    ("voters.NAME, method: execute", ExecuteVoter),
    ("voters.NAME, method: verbatim", VerbatimVoter),
    ("voters.NAME, method: submission", SubmissionVoter),
    ("voters.NAME.when", WhenSettings),
    ("vote", VoteSettings),
    ("vote.fit", FitSettings),
    ("finetune", FinetuneSettings),
    ("report", ReportSettings),
    ("submission", SubmissionSettings),
)
# What keys do whose name says it in the code.
MORE = {
    "Recipe.out": "the run directory: a path, or an s3:// or gs:// address",
    "Recipe.seed": "of everything that is drawn at random",
    "Recipe.questions": "the questions that are asked",
    "Recipe.examples": "the solved examples",
    "Recipe.models": "the models, by a name of your choice",
    "Recipe.voters": "the ways of asking, by a name of your choice; with several, they vote",
    "Recipe.vote": "how the voters decide together",
    "Recipe.submission": "the form of submission.csv",
    "Recipe.report": "additional measurements",
    "QuestionSettings.answers": "how the file writes right answers",
    "ExampleSettings.answers": "how the file writes right answers",
    "QuestionSettings.encoding": "of text files, such as cp1252 or gb18030",
    "ExampleSettings.encoding": "of text files, such as cp1252 or gb18030",
    "HoldoutSettings.n": "how many are asked",
    "HoldoutSettings.seed": "of the hash that chooses them",
    "ModelSettings.source": "`embedded`, OWNER/NAME on the Hub, a directory, a .gguf file, or `scripted`",
    "VoteSettings.rule": "how the voters' probabilities become a verdict: see [voting](../voting.md)",
    "FitSettings.limit": "how many solved examples are asked to fit the vote on",
    "RetrieveVoter.neighbours": "the nearest examples that are read",
    "SampleVoter.n": "how many replies are drawn",
    "SampleVoter.max_tokens": "of each reply",
    "model": "the name of the model under `models`",
    "method": "the way of asking",
    "template": "the wording of the prompt: this project's, or the reference project's",
    "embedder": "what turns texts into vectors",
    "max_field_mib": "see `max_line_mib`",
    "max_row_group_mib": "see `max_line_mib`",
    "dtype": "auto: what the hardware is good at",
    "quantization": "of the weights, by vLLM's name for it; without it: as the model's files say",
    "max_model_len": "the longest prompt in tokens; without it: what the plan chooses",
    "gpu_memory_utilization": "the share of each GPU's memory that an engine takes",
    "margin": "see `early_exit`",
    "temperature": "of vLLM's sampling",
    "top_p": "of vLLM's sampling",
    "repetition_penalty": "of vLLM's sampling",
    "backend": "auto: Unsloth on one NVIDIA GPU, otherwise peft",
    "epochs": "how often every example is shown",
    "accumulation": "forward passes of one optimizer step",
    "workers": "GPUs that share a step",
    "learning_rate": "of the optimizer",
    "schedule": "of the learning rate",
    "warmup_steps": "steps until the full learning rate",
    "weight_decay": "of the optimizer",
    "rank": "of the LoRA weights",
    "alpha": "of the LoRA weights",
    "dropout": "of the LoRA weights",
    "targets": "the layers that get LoRA weights, by name",
    "gradient_checkpointing": "computes again instead of keeping: less memory, more time",
    "seed": "of what is drawn at random",
    "checkpoint_steps": "steps between two checkpoints",
}
HEAD = """# Every key of a recipe

Made from the code by `python docs/reference.py`; do not edit it by hand. An unknown key is a mistake that is named.
On the command line a key is written with its path and a YAML value: `questions.limit=100`.
"""


def page() -> str:
    """Return the text of the page."""
    return "\n".join([HEAD, *(_section(path, model) for path, model in SECTIONS)])


def _section(path: str, model: type[Settings]) -> str:
    schema = model.model_json_schema()
    comments = _comments(model)
    rows = [
        f"| `{key}` | {_kind(schema['properties'][key], schema.get('$defs', {}))} | {_default(field)} "
        f"| {_cell(comments.get(key) or MORE.get(f'{model.__name__}.{key}') or MORE.get(key, ''))} |"
        for key, field in model.model_fields.items()
    ]
    about = (inspect.getdoc(model) or "").partition("\nAttributes:")[0].strip()
    title = f"## {path or 'The whole recipe'}\n\n{_unwrapped(about)}\n"
    return "\n".join([title, "| key | value | default | what it does |", "|---|---|---|---|", *rows, ""])


def _unwrapped(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _cell(text: str) -> str:
    text = re.sub(r"\bNone: ", "without it: ", text.strip())
    return (text[:1].upper() + text[1:]).replace("|", "\\|").replace("<", "&lt;")


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Settings):
        return "see below"
    if value is None or value == {} or value == ():
        return ""
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value if value != '' else repr(value)}`"


def _kind(schema: dict[str, Any], defs: dict[str, Any]) -> str:
    """Return what a value may be, in words, from its JSON schema."""
    if "$ref" in schema:
        schema = defs[schema["$ref"].rpartition("/")[2]]
        return "a mapping" if "properties" in schema else _kind(schema, defs)
    if "anyOf" in schema or "oneOf" in schema:
        kinds = dict.fromkeys(_kind(one, defs) for one in schema.get("anyOf", schema.get("oneOf", [])))
        return ", or ".join(kind for kind in kinds if kind != "nothing")
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if "allOf" in schema:
        return _kind(schema["allOf"][0], defs)
    plain = {"string": "text", "boolean": "true or false", "null": "nothing", "object": "a mapping", None: "any value"}
    kind = schema.get("type")
    if kind == "array":
        return f"a list of {_kind(schema.get('items', {}), defs)}" if "items" in schema else "a list"
    if kind in ("integer", "number"):
        return ("a whole number" if kind == "integer" else "a number") + _bounds(schema)
    if kind == "object" and "additionalProperties" in schema and isinstance(schema["additionalProperties"], dict):
        return "a mapping of names"
    return plain[kind]


def _bounds(schema: dict[str, Any]) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    above = "more than" if "exclusiveMinimum" in schema else "at least"
    if low is not None and high is not None:
        return f", {'above ' if 'exclusiveMinimum' in schema else ''}{low:,} to {high:,}"
    return f", {above} {low}" if low is not None else ""


def _comments(model: type[Settings]) -> dict[str, str]:
    """Return what the source says of each field: in its docstring, above it, and behind it."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if isinstance(base, type) and issubclass(base, Settings) and base is not Settings:
            found |= {name: text for name, text in _of_class(base) if text}
    return found


def _of_class(model: type[Settings]) -> Iterator[tuple[str, str]]:
    source = textwrap.dedent(inspect.getsource(model))
    lines = source.splitlines()
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    attributes = _attributes(inspect.getdoc(model) or "")
    (body,) = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            above: list[str] = []
            line = node.lineno - 1
            while line in comments and lines[line - 1].lstrip().startswith("#"):
                above.insert(0, comments[line])
                line -= 1
            behind = [
                comments[number] for number in range(node.lineno, (node.end_lineno or 0) + 1) if number in comments
            ]
            yield node.target.id, " ".join([*above, *behind]) or attributes.get(node.target.id, "")


def _attributes(docstring: str) -> dict[str, str]:
    section = docstring.partition("\nAttributes:\n")[2]
    entries = re.split(r"\n    (?=\w+: )", "\n" + section)
    pairs = (" ".join(entry.split()).partition(": ") for entry in entries if entry.strip())
    return {name: text for name, _, text in pairs}


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
