"""The tools of this machine, for the methods that use them: which sandbox works, and which languages it has."""

from codemmlu.evidence import LIMITS
from codemmlu.inference.spec import InferenceSpec
from codemmlu.recipe import EvidenceVoter, digest
from codemmlu.sandbox import SandboxMissing, open_sandbox

# The versions of what a method observes: another version looks at every question again.
_VERSIONS = {"static": 1, "execute": 2, "verbatim": 1, "choices-only": 1}
_TOOLLESS = ("verbatim", "choices-only")
NONE = "none"


def evidence_spec(voter: EvidenceVoter) -> InferenceSpec:
    """Return the spec of a voter that looks at tools or at the text.

    Its backend is the one that works here, so that questions are looked at again where another one is found.
    """
    if voter.method in _TOOLLESS:
        settings = (("version", _VERSIONS[voter.method]),)
        return InferenceSpec(voter.pool, "", voter.method, settings=settings)
    try:
        sandbox = open_sandbox(voter.sandbox)
        backend, tools = sandbox.name, tuple(sorted(sandbox.languages().items()))
    except SandboxMissing:
        backend, tools = NONE, ()
    own = (("backend", backend), ("limits", digest(*vars(LIMITS).items())), ("version", _VERSIONS[voter.method]))
    return InferenceSpec(voter.pool, "", voter.method, settings=own, tools=tools)


def describe_tools(voter: EvidenceVoter) -> str:
    """Return a line on the sandbox and the languages of a voter, or on why it abstains."""
    if voter.method in _TOOLLESS:
        return f"{voter.method}: reads the text alone; it is an artefact voter"
    try:
        sandbox = open_sandbox(voter.sandbox)
    except SandboxMissing as missing:
        return f"{voter.method}: abstains everywhere, as no program runs without a sandbox: {missing}"
    tools = ", ".join(f"{language} ({tool})" for language, tool in sandbox.languages().items())
    return f"{voter.method}: programs run in {sandbox.name}: {tools}"
