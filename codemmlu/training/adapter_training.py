"""Learning: the weights that a recipe's `finetune` asks for, made where they do not stand.

And that no weights are asked what they were made of.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from codemmlu.dataset.dedup import content_key
from codemmlu.dataset.examples import asked_content_keys
from codemmlu.engine import lora, model_source
from codemmlu.engine.adapter_store import Manifest, folder_of, read_manifest
from codemmlu.engine.scripted import is_scripted
from codemmlu.errors import Progress, UserError
from codemmlu.inference.voters import ResolvedVoter, inspect_adapter
from codemmlu.recipe import FinetuneSettings, Recipe
from codemmlu.retrieval.index import ExampleIndex, ensure_index, publish
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question
from codemmlu.training.training_set import build_training_set, fingerprint


def ensure_adapter(recipe: Recipe, progress: Progress, run: RunDir, settings: FinetuneSettings) -> Manifest:
    """Trains what the recipe's `finetune` says, or says that it stands already. Raises UserError."""
    say = progress.say
    base = recipe.models[settings.model]
    if is_scripted(base.source):
        raise UserError(f"finetune.model: models.{settings.model} is a scripted engine, which has no weights to train")
    model = model_source.validate(base.source, base.revision, model_source.cache_folder())
    index = ensure_index(recipe, progress, labelled=True) if settings.examples else None
    start = find_start(recipe, settings, model)
    goes_on = start.fingerprint if start else ""
    training_set = build_training_set(recipe, settings, partial(_nearest, index) if index else None, goes_on)
    wanted = fingerprint(settings, model, training_set, goes_on)
    known = lora.learnt_by(base.source) | (lora.learnt_by(start.path) if start else frozenset())
    training_set = replace(training_set, learnt=training_set.learnt | known)
    manifest = read_manifest(run, settings.name)
    merged = run.below(f"merged/{settings.name}")
    if manifest and manifest.fingerprint == wanted:
        say(f"finetune: {settings.name} stands and nothing changed: reused")
    else:
        if training_set.asked:
            say(f"finetune: {training_set.asked:,} examples are questions that are asked, and are not learnt from")
        from codemmlu.cluster import session
        from codemmlu.training import ray_trainer

        session.join()
        run.clear(f"merged/{settings.name}")
        place = start.path if start else None
        manifest = ray_trainer.train(progress, run, settings, model, training_set, wanted, place, recipe.gpus)
        before, best = manifest.tune[0], min(manifest.tune[1:], key=lambda point: point.loss)
        right = "" if best.accuracy is None else f", right {before.accuracy:.3f} -> {best.accuracy:.3f}"
        say(
            f"finetune: {settings.name} is at {run.below(folder_of(settings.name)).shown}: on the tune part loss "
            f"{before.loss:.3f} -> {best.loss:.3f}{right} (step {best.step:,} of {manifest.steps:,})"
        )
    if settings.merge and not merged.exists("config.json"):
        from codemmlu.cluster import session
        from codemmlu.training import ray_trainer

        session.join()
        say(f"finetune: merged into the model at {ray_trainer.merge(run, settings, model)}")
    return manifest


def _nearest(index: ExampleIndex, questions: Sequence[Question], most: int) -> list[list[str]]:
    """The task_ids of the examples nearest to each question, by the rule by which voters see them."""
    from codemmlu.cluster import session
    from codemmlu.retrieval import shared_index

    session.join()
    return shared_index.nearest(publish(index), questions, most)


def find_start(recipe: Recipe, settings: FinetuneSettings, model: model_source.Model) -> lora.Adapter | None:
    """The weights that training goes on from. Raises UserError where they do not fit it, or know what is asked."""
    if settings.start is None:
        return None
    start = inspect_adapter(settings.start, "finetune.start", settings.model, model)
    if both := lora.learnt_by(start.path) & asked_content_keys(recipe):
        raise UserError(
            f"finetune.start: {len(both):,} of the questions are among those that {settings.start} was trained on; ask "
            "others, or start from other weights"
        )
    return start


def check_no_train_overlap(recipe: Recipe, voters: Mapping[str, ResolvedVoter], fit: Sequence[Question]) -> None:
    """Raises UserError where a voter would answer questions that its weights were trained on, or be weighed by such."""
    parts = {
        "the questions": asked_content_keys(recipe),
        "the examples that are fitted on": frozenset(map(content_key, fit)),
    }
    for name, voter in voters.items():
        # Weights that were merged into a model keep what they were made of beside it.
        made = {f"models.{voter.pool}.source": recipe.models[voter.pool].source} if voter.pool in recipe.models else {}
        for key, place in (made | ({f"voters.{name}.adapter": voter.ask.adapter} if voter.ask.adapter else {})).items():
            for what, asked in parts.items():
                if both := lora.learnt_by(place) & asked:
                    raise UserError(
                        f"{key}: {len(both):,} of {what} are among those that it was trained on; train it again "
                        "without them (jobs/finetune.py), or ask others"
                    )
