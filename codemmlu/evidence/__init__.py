"""Evidence about a question without a model: what tools say, and what its text gives away. Probabilities are learnt."""

from codemmlu.evidence.frequencies import Frequencies, count
from codemmlu.evidence.probe import LIMITS, Observation, Probe, Run
from codemmlu.evidence.probes import PROBES

__all__ = ["LIMITS", "PROBES", "Frequencies", "Observation", "Probe", "Run", "count"]
