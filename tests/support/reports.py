"""Reports for tests: complete, with nothing in what a test does not name."""

from typing import Any

from codemmlu.report.results import Pair, Slices
from codemmlu.report.schema import FitReport, Report, SubmissionReport, VoterCalibration, VoteReport, VoterReport

NOTHING: dict[str, Any] = {"accuracy": None, "accuracy_answered": None, "asked": 0, "interval": None, "bootstrap": None}
COUNTS = dict.fromkeys(("answered", "abstained", "failed", "skipped"), 0)
COST = dict.fromkeys(
    ("prompt_tokens", "cached_tokens", "generated_tokens", "computed_tokens", "readings", "turns", "seconds"), 0
)


def voter_report(**fields: Any) -> VoterReport:
    """A voter without answers."""
    rest = {"above_chance_per_million_computed": None, "letter_mass": None, "reading_alone": None, "rank": None}
    calibration = VoterCalibration(as_said=None, fitted=None)
    shown: dict[str, Any] = {"letters_said": {}, "coverage": [], "calibration": calibration}
    return VoterReport(**{**NOTHING, **COUNTS, **COST, **rest, **shown, **fields})


def vote_report(**fields: Any) -> VoteReport:
    """Verdicts on no question."""
    shown: dict[str, Any] = {"answered": 0, "letters_said": {}, "coverage": [], "calibration": None}
    return VoteReport(**{"rule": "log_pool", **NOTHING, **shown, **fields})


def pair_report(first: str, second: str, **fields: Any) -> Pair:
    """Two voters that were asked nothing together."""
    counts = dict.fromkeys(("asked", "both_right", "only_first", "only_second", "both_wrong"), 0)
    return Pair(
        **{"first": first, "second": second, **counts, "difference": None, "interval": None, "p": 1.0, "p_holm": 1.0}
        | fields
    )


def report_of(**fields: Any) -> Report:
    """A run without questions."""
    empty: dict[str, Any] = {
        **dict.fromkeys(("questions", "labelled", "rejected"), 0),
        **{key: [] for key in ("notes", "comparisons", "failures")},
        **{key: {} for key in ("letters_right", "voters", "asks", "rules", "agreement", "models")},
        **dict.fromkeys(("chance", "hindsight", "order_sensitivity", "leakage", "training")),
        "vote": vote_report(),
        "fitted": FitReport(questions=0, margin=0.2, voters={}, **COST),
        "slices": Slices(subject=[], choices=[], characters=[]),
        "out": "run",
        "submission": SubmissionReport(rows=0, blank=0),
    }
    return Report(**{**empty, **fields})
