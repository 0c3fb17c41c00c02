"""The adapters of voters: each is found, checked against its model and hashed once for a run."""

from collections.abc import Mapping

from codemmlu.engine import adapter_check, lora, model_source
from codemmlu.engine.adapter_store import folder_of, read_manifest
from codemmlu.engine.lora import Adapter
from codemmlu.engine.soup import mixed
from codemmlu.errors import UserError
from codemmlu.recipe import Recipe, adapter_names, model_name
from codemmlu.run_dir import RunDir


def find_adapters(
    recipe: Recipe, models: Mapping[str, model_source.Model], but: str | None = None, soups: bool = True
) -> dict[str, Adapter]:
    """Find the adapters that voters answer with, check that they fit their models, and hash each of them once.

    Args:
        recipe: The recipe.
        models: The models of the recipe that are known, by name.
        but: The name of an adapter that is left out, because it may not be trained yet.
        soups: Whether several adapters of a voter are mixed, which writes the mean to the run directory; otherwise they
            are checked alone.

    Returns:
        The adapters by the name of the voter, for the voters with one.
    """
    by_path: dict[str, Adapter] = {}
    by_voter = {}
    for name, voter in recipe.asked.items():
        key = f"voters.{name}.adapter"
        base = model_name(voter) or ""
        model = models.get(base)
        parts = []
        for adapter in adapter_names(voter):
            if but is not None and adapter == but:
                continue
            path = _adapter_path(recipe, name, adapter)
            if path not in by_path:
                by_path[path] = lora.validate(path, key)
            parts.append(refuse_other_base(by_path[path], key, base, model))
            adapter_check.check(by_path[path], key, base, model)
        if len(parts) == 1:
            by_voter[name] = parts[0]
        elif parts and soups:
            by_voter[name] = mixed(RunDir(recipe.out), parts, key)
    return by_voter


def _adapter_path(recipe: Recipe, name: str, adapter: str) -> str:
    """Return where an adapter of a voter is; a UserError where the recipe has yet to train it."""
    if recipe.finetune is None or adapter != recipe.finetune.name:
        return adapter
    run = RunDir(recipe.out)
    if read_manifest(run, adapter) is None:
        message = f"{adapter} is not trained yet; jobs/finetune.py and jobs/run.py do that"
        raise UserError(message, key=f"voters.{name}.adapter")
    return run.below(folder_of(adapter)).address


def refuse_other_base(adapter: Adapter, key: str, name: str, model: model_source.Model | None) -> Adapter:
    """Return an adapter that fits a model of the recipe.

    Args:
        adapter: The adapter.
        key: The recipe key that an error names.
        name: The name of the model in the recipe.
        model: The model, or None to accept any.

    Returns:
        The adapter.

    Raises:
        UserError: The adapter was trained on another model.
    """
    base = lora.base_of(adapter)
    if base and model and base != model.fingerprint:
        raise UserError(f"{adapter.path} was trained on another model than models.{name} now is", key=key)
    return adapter
