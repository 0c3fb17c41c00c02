"""What an actor opens its engine with, as plain values that can be sent to it."""

from collections.abc import Mapping

from codemmlu.engine import model_source
from codemmlu.engine.hidden_states import STATES
from codemmlu.engine.placement.placement import Placement
from codemmlu.engine.protocol import EngineSettings
from codemmlu.engine.scripted import SCRIPTED, is_scripted
from codemmlu.recipe import ModelSettings


def states_settings(model: model_source.Model, settings: ModelSettings, name: str) -> EngineSettings:
    """Return what an actor opens a model with to read its hidden states; `name` is the model's in the recipe."""
    arguments = {
        "revision": model.revision,
        "trust_remote_code": settings.trust_remote_code,
        "max_model_len": settings.max_model_len,
    }
    return EngineSettings(model.source, model_source.cache_folder(), arguments, backend=STATES, name=name)


def engine_settings(
    model: model_source.Model, placement: Placement, seed: int, lora: Mapping[str, bool | int]
) -> EngineSettings:
    """Return what an actor opens an engine with; `lora` are vLLM's arguments for serving adapters."""
    if is_scripted(model.source):
        return EngineSettings(model.source, model_source.cache_folder(), {"script": model.config}, backend=SCRIPTED)
    arguments = {"seed": seed, **placement.arguments, **lora}
    if model.revision:
        arguments["revision"] = model.revision
    label = placement.label if placement.spans else None
    return EngineSettings(model.source, model_source.cache_folder(), arguments, label, device=placement.device)
