"""Adapter training: train the weights of a recipe's `finetune`, unless they exist and nothing changed.

Also refuse to evaluate weights on their own training questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from codemmlu.dataset import QuestionSet
from codemmlu.dataset.dedup import content_key
from codemmlu.engine import lora, model_source
from codemmlu.engine.adapter_store import Manifest, folder_of, standing
from codemmlu.engine.scripted import is_scripted
from codemmlu.errors import Progress, UserError
from codemmlu.inference.adapters import refuse_other_base
from codemmlu.inference.voters import ResolvedVoter
from codemmlu.recipe import FinetuneSettings, Recipe, model_name
from codemmlu.retrieval.index import ExampleIndex, ensure_index, share
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question
from codemmlu.training.contradictions import find_contradictions
from codemmlu.training.training_set import Helpers, TrainingSet, build_training_set, fingerprint


def ensure_adapter(recipe: Recipe, progress: Progress, run: RunDir, questions: QuestionSet) -> Manifest:
    """Train the adapter of the recipe's `finetune`, unless it is trained already.

    Args:
        recipe: The recipe of the run, with a section `finetune`.
        progress: Where to report.
        run: The run directory, which the weights go to.
        questions: The questions that are asked, none of which is learnt from, and the examples.

    Returns:
        The manifest of the adapter.

    Raises:
        UserError: The recipe cannot be trained as it is.
    """
    settings, say = recipe.finetune, progress.say
    assert settings is not None
    base = recipe.models[settings.model]
    if is_scripted(base.source):
        raise UserError(
            f"models.{settings.model} is a scripted engine, which has no weights to train", key="finetune.model"
        )
    model = model_source.validate(base.source, base.revision, model_source.cache_folder())
    _check_quantization(settings, model)
    index = ensure_index(recipe, progress, questions, labelled=True) if settings.examples else None
    start = find_start(settings, model, questions)
    start_fingerprint = start.fingerprint if start else ""
    helpers = Helpers(
        partial(_nearest, index) if index else None, start_fingerprint, partial(find_contradictions, run, progress)
    )
    training_set = build_training_set(settings, recipe.seed, questions, helpers)
    wanted = fingerprint(settings, model, training_set, start_fingerprint)
    known = lora.learnt_by(base.source) | (lora.learnt_by(start.folder) if start else frozenset())
    training_set = replace(training_set, learnt=training_set.learnt | known)
    manifest = standing(run, settings.name, progress)
    merged = run.below(f"merged/{settings.name}")
    if manifest and manifest.fingerprint == wanted:
        say(f"finetune: {settings.name} stands and nothing changed: reused")
    else:
        _describe(progress, training_set)
        from codemmlu.cluster import session
        from codemmlu.training import ray_trainer

        session.join()
        run.clear(f"merged/{settings.name}")
        start_path = start.path if start else None
        job = ray_trainer.TrainJob(settings, model, training_set, wanted, start_path, base.trust_remote_code)
        manifest = ray_trainer.train(progress, run, job, recipe.gpus)
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
        say(f"finetune: merged into the model at {ray_trainer.merge(run, settings, model, base.trust_remote_code)}")
    return manifest


def _describe(progress: Progress, training_set: TrainingSet) -> None:
    """Report the examples that are left out, and those that a teacher knows."""
    if training_set.asked:
        progress.say(f"finetune: {training_set.asked:,} examples are questions that are asked, and are not learnt from")
    if left := training_set.contradicted:
        named = ", ".join(one.task_id for one in left[:3]) + (", ..." if len(left) > 3 else "")
        progress.say(
            f"finetune: {len(left):,} examples are left out, as a tool contradicts their key ({named}); the "
            "manifest of the weights lists them"
        )
    if training_set.taught:
        progress.say(f"finetune: a teacher knows {training_set.taught:,} examples")


def _check_quantization(settings: FinetuneSettings, model: model_source.Model) -> None:
    """Refuse to quantise weights again that are quantised already."""
    stored = model.config.get("quantization_config")
    method = str(stored.get("quant_method", "")) if isinstance(stored, dict) else ""
    if method not in ("", "bitsandbytes") and settings.quantization != "none":
        raise UserError(
            f"finetune.quantization: models.{settings.model} is quantised already ({method}), and "
            f"{settings.quantization} takes plain weights; name the plain model, or set finetune.quantization=none "
            f"where peft can train on {method} weights"
        )


def _nearest(index: ExampleIndex, questions: Sequence[Question], most: int) -> list[list[str]]:
    """Return the task_ids of the examples nearest to each question, by the selection policy of the voters."""
    from codemmlu.cluster import session
    from codemmlu.retrieval import shared_index

    session.join()
    return shared_index.nearest(share(index), questions, most)


def find_start(settings: FinetuneSettings, model: model_source.Model, questions: QuestionSet) -> lora.Adapter | None:
    """Return the adapter that training starts from.

    Args:
        settings: The settings of the training.
        model: The model to train.
        questions: The questions that are asked.

    Returns:
        The adapter; None where training starts from new weights.

    Raises:
        UserError: The adapter does not fit the model, or was trained on questions that are asked.
    """
    if settings.start is None:
        return None
    key = "finetune.start"
    start = refuse_other_base(lora.validate(settings.start, key), key, settings.model, model)
    if both := lora.learnt_by(start.folder) & questions.content_keys:
        raise UserError(
            f"{len(both):,} of the questions are among those that {settings.start} was trained on; ask "
            "others, or start from other weights",
            key=key,
        )
    return start


def check_no_train_overlap(recipe: Recipe, voters: Mapping[str, ResolvedVoter], questions: QuestionSet) -> None:
    """Refuse to evaluate or weigh a voter on questions that its weights were trained on.

    Args:
        recipe: The recipe of the run.
        voters: The voters, by name.
        questions: The questions that are asked, and the examples that weights are fitted on.

    Raises:
        UserError: An adapter, or a model with a merged adapter, was trained on one of these questions.
    """
    for name, voter in voters.items():
        for key, path in _weights(recipe, name, voter).items():
            trained = lora.learnt_by(path)
            if not trained:
                continue
            fitted = frozenset(map(content_key, questions.fit_examples))
            parts = {"the questions": questions.content_keys, "the examples that are fitted on": fitted}
            for part, content_keys in parts.items():
                if both := trained & content_keys:
                    raise UserError(
                        f"{len(both):,} of {part} are among those that it was trained on; train it again "
                        "without them (jobs/finetune.py), or ask others",
                        key=key,
                    )


def _weights(recipe: Recipe, name: str, voter: ResolvedVoter) -> dict[str, str]:
    """Return the folders of a voter's weights by recipe key; a model may have an adapter merged into it."""
    model = model_name(voter.settings)
    weights = {f"models.{model}.source": recipe.models[model].source} if model else {}
    return weights | ({f"voters.{name}.adapter": voter.adapter.folder} if voter.adapter else {})
