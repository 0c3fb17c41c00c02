"""The inputs of a run: they are found before any work, and none may lie where the run writes."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress

from codemmlu.dataset import Submission, read_submission
from codemmlu.dataset.files import files, is_hub
from codemmlu.dataset.stored import stored_questions
from codemmlu.engine import model_source
from codemmlu.engine.placement.placement import check_engine_arguments
from codemmlu.engine.scripted import SCRIPTED
from codemmlu.errors import UserError
from codemmlu.recipe import Recipe, SubmissionVoter, adapter_names, model_name
from codemmlu.recipe.models import names_of_code
from codemmlu.run_dir import RunDir, writes_below
from codemmlu.schema import letters


def find_models(recipe: Recipe) -> dict[str, model_source.Model]:
    """Return the models that are asked, by name; a model that is not there is a UserError."""
    models = {}
    for name, settings in recipe.models.items():
        if any(model_name(voter) == name for voter in recipe.asked.values()):
            check_engine_arguments(name, settings)
            models[name] = model_source.validate(settings.source, settings.revision, model_source.cache_folder())
    return models


def foreign_code(recipe: Recipe) -> list[str]:
    """Return warnings of models that bring Python code and are allowed to run the code."""
    warnings = [
        f"WARNING: models.{name}.trust_remote_code: Python code that comes with {settings.source} runs on every node"
        for name, settings in recipe.models.items()
        if settings.trust_remote_code
    ]
    warnings += [
        f"WARNING: models.{name}.engine.{path}: the Python code that it names runs on every node"
        for name, settings in recipe.models.items()
        for path in names_of_code(settings.engine)
    ]
    return warnings


def find_submissions(recipe: Recipe) -> dict[str, Submission]:
    """Read other systems' answers, by voter; a file that cannot be read is a UserError."""
    return {
        name: read_submission(voter.source, f"voters.{name}.source")
        for name, voter in recipe.voters.items()
        if isinstance(voter, SubmissionVoter)
    }


def refuse_overwritten(recipe: Recipe, run: RunDir) -> None:
    """Refuse a recipe with an input that lies where its run writes.

    Args:
        recipe: The recipe.
        run: The run directory.

    Raises:
        UserError: There is such an input.
    """
    adapter = recipe.finetune.name if recipe.finetune else None
    for key, path in _inputs(recipe):
        name = _name_below(run, path)
        if name is not None and writes_below(name, adapter):
            raise UserError(
                f"{key}: {path} lies where the run itself writes ({run.shown}/{name}) and would be overwritten; "
                "move it, or give another `out`"
            )


def _inputs(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Return the recipe key and the path of each input; a source with several files has one path for each."""
    sources = {"questions.source": recipe.questions.source, "examples.source": recipe.examples.source}
    for name, voter in recipe.voters.items():
        if isinstance(voter, SubmissionVoter):
            sources[f"voters.{name}.source"] = voter.source
        for adapter in adapter_names(voter):
            yield f"voters.{name}.adapter", adapter
    for key, source in sources.items():
        if source is None or source == "sample" or is_hub(source):
            continue
        yield key, source
        with suppress(UserError):  # A source that cannot be read is reported where it is read.
            yield from ((key, file.name) for file in files(source, key))
    for name, model in recipe.models.items():
        yield f"models.{name}.source", model.source.removeprefix(f"{SCRIPTED}:")
    yield "examples.embedder.source", recipe.examples.embedder.source
    if recipe.finetune and recipe.finetune.start:
        yield "finetune.start", recipe.finetune.start
    if recipe.finetune and recipe.finetune.pairs_from:
        yield "finetune.pairs_from", os.path.join(recipe.finetune.pairs_from, "report.json")


def _name_below(run: RunDir, path: str) -> str | None:
    """Return the name of a path in the run directory, whatever links lead there; None where it lies elsewhere."""
    if run.is_local:
        if "://" in path and not path.startswith("file://"):
            return None
        try:
            inner = os.path.realpath(os.path.expanduser(path.removeprefix("file://")))
        except (OSError, ValueError):  # A loop of links, or a NUL character.
            return None
        outer = os.path.realpath(run.base)
    else:
        inner, outer = path.partition("?")[0].rpartition("@")[2], run.address.partition("?")[0].rpartition("@")[2]
        inner, outer = inner.partition("://")[2] or inner, outer.partition("://")[2] or outer
    return inner[len(outer) + 1 :] if inner.startswith(f"{outer}/") else None


def describe_submissions(recipe: Recipe, run: RunDir, submissions: Mapping[str, Submission]) -> Iterator[str]:
    """Yield how many answers other systems gave to the questions of a run, and the notes on odd answers."""
    for name, submission in submissions.items():
        voter = recipe.voters[name]
        assert isinstance(voter, SubmissionVoter)
        given = [
            (letter, len(question.choices))
            for question in stored_questions(run)
            if (letter := submission.letters.get(question.task_id, "")) != ""
        ]
        total = f"{len(submission.letters):,} answers from {voter.source}"
        yield f"{name}: {total}, {len(given):,} of them to these questions"
        for note, count in submission.notes.most_common():
            yield f"  {count:,} x {note}"
        if beyond := sum(letter is not None and letter not in letters(size) for letter, size in given):
            yield f"  {beyond:,} x letters that the question does not have: counted as no answer"
