"""The methods of answering. A new method is a module here, its entry in METHODS and its settings in recipe/voters."""

from codemmlu.inference.methods.base import Method, MethodInput, MethodResult, NotFinite, nearest_last, select_examples
from codemmlu.inference.methods.direct import DIRECT
from codemmlu.inference.methods.evidence import EVIDENCE
from codemmlu.inference.methods.probe import PROBE
from codemmlu.inference.methods.reason import REASON
from codemmlu.inference.methods.retrieve import RETRIEVE
from codemmlu.inference.methods.sample import SAMPLE
from codemmlu.inference.methods.verify import VERIFY, VERIFY_RANK

METHODS = {
    "direct": DIRECT,
    "verify": VERIFY,
    "verify-rank": VERIFY_RANK,
    "reason": REASON,
    "sample": SAMPLE,
    "retrieve": RETRIEVE,
    "probe": PROBE,
    **EVIDENCE,
}

__all__ = [
    "METHODS",
    "Method",
    "MethodInput",
    "MethodResult",
    "NotFinite",
    "nearest_last",
    "select_examples",
]
