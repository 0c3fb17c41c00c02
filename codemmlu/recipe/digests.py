"""Digests: names of weights, answers and indexes, by the settings that determine them.

One rule holds for all of them: a setting that the first version had always enters a digest, and every later one only
where it differs from its default. So a new setting has no adapter trained and no question asked again, as long as the
default of no setting ever changes. `tests/fixtures/digests.json` holds the digests of all recipes.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from codemmlu.recipe.base import Settings

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# The settings of the first version, by the section's class. This list is closed: a later setting is not added here.
_ALWAYS: Mapping[str, frozenset[str]] = {
    name: frozenset(listed.split())
    for name, listed in {
        "FinetuneSettings": (
            "model name objective pairs_from beta start backend quantization template limit synthesise examples "
            "withhold reorder epochs batch_size accumulation workers learning_rate schedule warmup_steps weight_decay "
            "optimizer rank alpha dropout targets gradient_checkpointing max_length seed evaluations tune_limit "
            "patience checkpoint_steps merge"
        ),
        "DirectVoter": "readings margin",
        "VerifyVoter": "threshold",
        "ReasonVoter": "max_tokens",
        "SampleVoter": "n max_tokens temperature top_k top_p repetition_penalty retry",
        "RetrieveVoter": "neighbours",
    }.items()
}


def digest(*parts: object) -> str:
    """Return a stable hash of plain values: 32 hex digits (128 bits) of the SHA-256 of canonical JSON."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def left_out(settings: Settings) -> set[str]:
    """Return the settings of a section that enter no digest: later ones that are at their defaults."""
    always = _ALWAYS.get(type(settings).__name__, frozenset())
    at_default = {
        name
        for name, field in type(settings).model_fields.items()
        if not field.is_required() and getattr(settings, name) == field.get_default(call_default_factory=True)
    }
    return at_default - always


def digested(value: "DataclassInstance") -> dict[str, Any]:
    """Return the fields of a dataclass that enter a digest: those without a default, and those that differ from it."""
    return {
        field.name: getattr(value, field.name)
        for field in fields(value)
        if field.default is MISSING or getattr(value, field.name) != field.default
    }
