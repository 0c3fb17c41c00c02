"""The command `init`: a starting recipe for a question file and this hardware, with comments."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import JsonValue

from codemmlu.cli.console import Terminal
from codemmlu.cli.doctor import too_much
from codemmlu.cli.dry_run import here
from codemmlu.cli.job import Outcome
from codemmlu.dataset import InMemory, QuestionStream
from codemmlu.engine.placement.gpus import Resources
from codemmlu.errors import UserError, redact_credentials, safe
from codemmlu.recipe import load, load_questions
from codemmlu.recipe.packaged import packaged
from codemmlu.schema import Rejected

# Recipes whose model is taken, the most accurate first by the table of docs/hardware.md.
_BY_ACCURACY = ("qwen2.5-32b-awq", "qwen2.5-coder-32b", "qwen2.5-14b", "qwen2.5-7b")
_WITHOUT_GPU = "qwen-0.5b"
_FEW = 60  # labelled questions of which none can be spared as solved examples


def init(terminal: Terminal, arguments: Sequence[str]) -> Outcome:
    """Write a recipe for a file into the current directory, and print the next commands.

    Args:
        terminal: Where to print.
        arguments: The file, or any other source, and overrides of `questions`.

    Returns:
        The recipe's path, and what was found in the file.

    Raises:
        UserError: There is a recipe of that name already.
    """
    source, *overrides = arguments
    settings = load_questions(source, list(overrides))
    stream, rows = QuestionStream(settings), InMemory()
    for row in stream.rows():
        if not isinstance(row, Rejected):
            rows.add(row)
    name = _stem(source)
    path = Path(f"{name}.yaml")
    hardware = here()
    model, base = best_model(hardware)
    sizes = Counter(len(row.choices) for row in rows)
    choices = " to ".join(map(str, sorted({min(sizes), max(sizes)})))
    facts = f"{stream.questions:,} questions, {stream.labelled:,} with an answer, {choices} choices"
    chosen = settings.model_dump(mode="json", exclude_unset=True, exclude={"source"})
    text = "\n".join(
        [
            *_head(path, source, facts, hardware),
            f"out: runs/{name} # all that a run writes; the same command again continues",
            "",
            *_questions(source, chosen, stream),
            *_models(model, base),
            *_VOTERS,
            *(_LABELLED if stream.labelled >= _FEW else _UNLABELLED),
        ]
    )
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text + "\n")
    except FileExistsError:
        raise UserError(f"{path} is here already; move it, or use it: codemmlu run {path}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be written here: {error.strerror}") from None
    load(str(path), [])  # What is written has to be a recipe.
    terminal.say(f"{source}: {facts}")
    terminal.say(f"{path} is written for {hardware} and {base}. Read it, then:")
    for more in (" --dry-run", " questions.limit=100", ""):
        terminal.say(f"  {_command(path)}{more}")
    report = {"recipe": str(path), "questions": stream.questions, "labelled": stream.labelled, "model": base}
    return Outcome(report, 0)


def best_model(hardware: Resources) -> tuple[dict[str, Any], str]:
    """Return the settings and the source of the most accurate of the recipes' models that fits."""
    names = (*_BY_ACCURACY, _WITHOUT_GPU) if hardware.gpus else (_WITHOUT_GPU,)
    fitting = (name for name in names if too_much(str(packaged()[name]), hardware) is None)
    settings = next(iter(load(str(packaged()[next(fitting, _WITHOUT_GPU)]), []).models.values()))
    values = settings.model_dump(mode="json", exclude_unset=True)
    return values, str(values["source"])


def _stem(source: str) -> str:
    """Return a name for the recipe, by the last part of the source."""
    last = redact_credentials(source).rstrip("/").rpartition("/")[2].partition("?")[0]
    stem = last.partition(".")[0] or last
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in stem)[:60].strip("-") or "mine"


def _head(path: Path, source: str, facts: str, hardware: Resources) -> list[str]:
    command = _command(path)
    return [
        f"# A starting recipe for {safe(redact_credentials(source))}: {facts}.",
        f"# Written for {hardware}. Every key: docs/reference/recipe.md.",
        "#",
        f"#     {command} --dry-run               the plan: counts, memory, tokens, time",
        f"#     {command} questions.limit=100     a try",
        f"#     {command}",
    ]


def _command(path: Path) -> str:
    return f"codemmlu run {shlex.quote(str(path))}"


def _questions(source: str, chosen: Mapping[str, JsonValue], stream: QuestionStream) -> list[str]:
    used = "; ".join(f"{field}: {', '.join(names)}" for field, names in stream.cleaner.columns.by_field().items())
    notes = [f"  # {safe(note)}" for note in stream.notes()]
    return [
        "questions:",
        f"  source: {_value(redact_credentials(source))}",
        *(f"  {key}: {_value(value)}" for key, value in chosen.items()),
        *([f"  # columns that are used: {safe(used)}"] if used else []),
        *notes,
        *(comment for key, comment in _OTHER_SHAPES.items() if key not in chosen),
        "",
    ]


def _models(model: Mapping[str, JsonValue], base: str) -> list[str]:
    more = [f"    {key}: {_value(value)}" for key, value in model.items() if key != "source"]
    return [
        "models:",
        "  mine:",
        f"    source: {_value(base)} # of the Hub; or a directory, a .gguf file, or `embedded`: small, and no download",
        *more,
        "",
    ]


def _value(value: JsonValue) -> str:
    """Return a value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=2**31, allow_unicode=True)
    return text.removesuffix("\n...\n").strip()


_OTHER_SHAPES = {
    "columns": "  # columns: { question: stem, answer: key } # where columns have other names",
    "answers": "  # answers: zero-based # or one-based, text: where answers are no letters",
}
_VOTERS = (
    "voters: # each is a way of asking; with several, they vote",
    "  cyclic: { model: mine, readings: cyclic } # every choice at every letter once: no letter is liked",
    "  # one: { model: mine } # one reading: the cheapest, and as good as the model's liking for letters lets it be",
    "  # verify: { model: mine, method: verify } # answers, checks itself, answers again",
    "  # reason: { model: mine, method: reason, max_tokens: 512 } # thinks first",
    "",
)
_UNLABELLED = (
    "# Questions with known answers help: as a voter, and to weigh the voters. Take the `#` away:",
    "# examples: { source: solved.csv }",
    "# vote: { fit: { limit: 300 } }",
    "# and under voters:  retrieve: { method: retrieve }",
)
_LABELLED = (
    "# All rows are asked, and the report says how many are right. Some can be solved examples instead: they help as a",
    "# voter and weigh the voters: add `holdout: { n: 40 }` under questions (so many are asked) and take the `#` away:",
    "# examples: { source: the same file }",
    "# vote: { fit: { limit: 300 } }",
    "# and under voters:  retrieve: { method: retrieve }",
)
