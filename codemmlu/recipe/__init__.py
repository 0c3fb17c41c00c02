"""The recipe: a run's configuration, frozen pydantic models read from a YAML file and `key.path=value` overrides.

An unknown key, a wrong type or a name that points nowhere is a user's mistake: all mistakes are reported at once, each
with its key path, before anything starts. Each section has a module.
"""

from codemmlu.recipe.data import EmbedderSettings, ExampleSettings, HoldoutSettings, QuestionSettings
from codemmlu.recipe.digests import digest, digested, left_out
from codemmlu.recipe.finetune import FinetuneSettings
from codemmlu.recipe.loader import load, load_questions
from codemmlu.recipe.models import ModelSettings
from codemmlu.recipe.output import FITTED_RULES
from codemmlu.recipe.recipe import Recipe
from codemmlu.recipe.voters import (
    AskedVoter,
    ChoicesOnlyVoter,
    DirectVoter,
    EvidenceVoter,
    ExecuteVoter,
    ModelVoter,
    ProbeVoter,
    ReasonVoter,
    RetrieveVoter,
    SampleVoter,
    StaticVoter,
    SubmissionVoter,
    VerbatimVoter,
    VerifyRankVoter,
    VerifyVoter,
    VoterSettings,
    WhenSettings,
    adapter_names,
    exits_early,
    method_settings,
    model_name,
    uses_examples,
    when_of,
)

__all__ = [
    "FITTED_RULES",
    "AskedVoter",
    "ChoicesOnlyVoter",
    "DirectVoter",
    "EmbedderSettings",
    "EvidenceVoter",
    "ExampleSettings",
    "ExecuteVoter",
    "FinetuneSettings",
    "HoldoutSettings",
    "ModelSettings",
    "ModelVoter",
    "ProbeVoter",
    "QuestionSettings",
    "ReasonVoter",
    "Recipe",
    "RetrieveVoter",
    "SampleVoter",
    "StaticVoter",
    "SubmissionVoter",
    "VerbatimVoter",
    "VerifyRankVoter",
    "VerifyVoter",
    "VoterSettings",
    "WhenSettings",
    "adapter_names",
    "digest",
    "digested",
    "exits_early",
    "left_out",
    "load",
    "load_questions",
    "method_settings",
    "model_name",
    "uses_examples",
    "when_of",
]
