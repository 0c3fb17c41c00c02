"""The adapters of a recipe: the models that they answer with, and notes on them."""

from collections.abc import Mapping

from codemmlu.engine import adapter_check, model_source
from codemmlu.inference.adapters import find_adapters
from codemmlu.inference.voters import Ensemble
from codemmlu.recipe import Recipe, adapter_names, model_name


def local_models(recipe: Recipe) -> dict[str, model_source.Model]:
    """Return the models on this machine that adapters answer with, by name; a broken model is a UserError."""
    tuned = {model_name(voter) for voter in recipe.asked.values() if adapter_names(voter)}
    cache = model_source.cache_folder()
    return {
        name: model_source.validate(settings.source, settings.revision, cache)
        for name, settings in recipe.models.items()
        if name in tuned and not model_source.is_on_hub(settings.source)
    }


def check_adapters(recipe: Recipe, trained: str | None) -> None:
    """Refuse adapters that are not there or that do not fit, but for the one that the recipe trains, by its name."""
    find_adapters(recipe, local_models(recipe), trained, soups=False)


def other_bases(ensemble: Ensemble, models: Mapping[str, model_source.Model]) -> list[str]:
    """Return a note for each adapter whose configuration names another model than the one it answers with."""
    notes = []
    for name, voter in ensemble.voters.items():
        model = models.get(model_name(voter.settings) or "")
        other = adapter_check.other_base(voter.spec.adapter, model) if model and voter.spec.adapter else None
        if model and other:
            notes.append(
                f"voters.{name}.adapter: it names {other} as its model, and answers with {model.source} here; if that "
                "is another model, its answers mean nothing"
            )
    return notes
