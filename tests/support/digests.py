"""The digests of a recipe: its adapter's, its answers' keys and its index's, without the models.

python -m tests.support.digests      writes tests/fixtures/digests.json; recipes that stand there must keep theirs
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from codemmlu.dataset import QuestionSet
from codemmlu.dataset.question_set import InMemory
from codemmlu.engine.lora import Adapter
from codemmlu.engine.model_source import Model
from codemmlu.inference import tools, voters
from codemmlu.recipe import Recipe, adapter_names, digest, load
from codemmlu.retrieval.embedder import Embedder
from codemmlu.retrieval.index import ExampleIndex
from codemmlu.retrieval.index_store import IndexManifest, fingerprint, kind_for
from codemmlu.retrieval.selection import SelectionPolicy
from codemmlu.run_dir import RunDir
from codemmlu.sandbox import SandboxMissing
from codemmlu.training import training_set

ROOT = Path(__file__).parents[2]
FIXTURE = ROOT / "tests" / "fixtures" / "digests.json"
OVERRIDES = ["questions.source=sample"]


def digests_of(path: Path, run: Path) -> dict[str, Any]:
    """Return the digests of a recipe, which asks the embedded sample.

    Args:
        path: The recipe.
        run: A directory that is not there.
    """
    recipe = load(str(path), [*OVERRIDES, f"out={run}"])
    store = InMemory()
    questions = QuestionSet(recipe, store)
    models = {name: Model(settings.source, None, f"weights of {name}", None, {}) for name, settings in _models(recipe)}
    index = _index(recipe, questions) if recipe.examples.source else None
    with _without_a_machine(recipe):
        found = voters.resolve_voters(
            recipe, models, index.retrieval_key if index else None, RunDir(str(run)), questions
        )
    return {
        "index": index.manifest.fingerprint if index else None,
        "adapter": _adapter(recipe, models, questions),
        "voters": {name: [voter.spec.name, voter.spec.key(store[0])] for name, voter in found.items()},
    }


def _models(recipe: Recipe) -> Any:
    return recipe.models.items()


def _index(recipe: Recipe, questions: QuestionSet) -> ExampleIndex:
    settings = recipe.examples
    embedder = Embedder(settings.embedder.source, None, "embedder", 32, "cpu", "")
    kind = kind_for(settings.kind, len(questions.examples))
    content = digest(*((q.task_id, q.question, q.choices, q.answer) for q in questions.examples))
    name = fingerprint(settings, embedder, kind, content, recipe.seed)
    manifest = IndexManifest.model_construct(fingerprint=name, weights=None)
    return ExampleIndex(RunDir(recipe.out), manifest, embedder, settings, SelectionPolicy.of(settings, True))


def _adapter(recipe: Recipe, models: dict[str, Model], questions: QuestionSet) -> str | None:
    settings = recipe.finetune
    if settings is None:
        return None
    examples = training_set.build_training_set(
        settings.model_copy(update={"teacher": None}),  # no other run is there
        recipe.seed,
        questions,
    )
    return training_set.fingerprint(settings, models[settings.model], examples, "")


@contextlib.contextmanager
def _without_a_machine(recipe: Recipe) -> Iterator[None]:
    """Give every voter with an adapter the same weights, and no machine a sandbox."""
    adapters = {name: Adapter("tuned", "weights", 16, "") for name, v in recipe.asked.items() if adapter_names(v)}
    with (
        patch.object(voters, "find_adapters", lambda *_: adapters),
        patch.object(tools, "open_sandbox", side_effect=SandboxMissing("none")),
    ):
        yield


def all_digests(scratch: Path) -> dict[str, Any]:
    """Return the digests of all recipes, by file name."""
    return {path.name: digests_of(path, scratch / path.stem) for path in sorted((ROOT / "recipes").glob("*.yaml"))}


if __name__ == "__main__":
    FIXTURE.write_text(json.dumps(all_digests(Path("/nowhere")), indent=1) + "\n")
