"""The probes by the name of their method."""

from codemmlu.evidence.choices_only import ChoicesOnly
from codemmlu.evidence.execution import Execute
from codemmlu.evidence.probe import Probe
from codemmlu.evidence.static import Static
from codemmlu.evidence.verbatim import Verbatim

PROBES: dict[str, Probe] = {
    "static": Static(),
    "execute": Execute(),
    "verbatim": Verbatim(),
    "choices-only": ChoicesOnly(),
}
