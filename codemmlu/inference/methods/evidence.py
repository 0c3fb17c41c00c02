"""The methods `static`, `execute` and `verbatim`: a probe observes a question, without an engine.

The answer keeps the observation. What it is worth is learnt on examples: see `inference/learnt_evidence.py`.
"""

import asyncio
from functools import partial

from codemmlu.engine.protocol import Engine
from codemmlu.evidence import PROBES, Observation
from codemmlu.inference.methods.base import Method, MethodInput, MethodResult
from codemmlu.inference.spec import InferenceSpec
from codemmlu.sandbox import SandboxMissing, open_sandbox
from codemmlu.schema import Question, Turn

OBSERVED = "observation"


async def _observe(method: str, engine: Engine | None, spec: InferenceSpec, inputs: MethodInput) -> MethodResult:
    """Observe a question; where there is nothing to observe, or no tool to do it with, the voter abstains."""
    observation = await asyncio.to_thread(_observed, method, spec, inputs.question)
    if observation is None:
        return MethodResult("abstained")
    return MethodResult("answered", turns=(Turn(OBSERVED, None, None, observation.text(), "tool"),))


def _observed(method: str, spec: InferenceSpec, question: Question) -> Observation | None:
    probe = PROBES[method]
    language = probe.language(question)
    if language is None:
        return None
    if not language:
        return probe.observe(question, None)
    try:
        sandbox = open_sandbox(spec.option("backend"))
    except (SandboxMissing, KeyError):  # There is no program without a sandbox, on this node or anywhere.
        return None
    return probe.observe(question, sandbox) if language in sandbox.languages() else None


EVIDENCE = {name: Method(partial(_observe, name)) for name in PROBES}
