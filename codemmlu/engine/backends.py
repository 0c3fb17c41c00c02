"""Backends: the engines that can serve a model. A new backend is one entry in BACKENDS."""

from codemmlu.engine.hidden_states import STATES, open_states
from codemmlu.engine.protocol import Engine, EngineSettings, OpenEngine
from codemmlu.engine.scripted import SCRIPTED, open_scripted
from codemmlu.engine.vllm_engine import open_vllm

BACKENDS: dict[str, OpenEngine] = {"vllm": open_vllm, SCRIPTED: open_scripted, STATES: open_states}


def open_engine(settings: EngineSettings) -> Engine:
    """Open the engine that `settings.backend` names; a model that cannot be loaded is a UserError."""
    return BACKENDS[settings.backend](settings)
